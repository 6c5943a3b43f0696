"""A simulated session in memory: no server, no clock to wait for."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import msgspec

from infra.simulator.api.births import born
from infra.simulator.api.resources import CREATE_SESSION
from infra.simulator.content import SEND
from infra.simulator.play import inbox
from infra.simulator.play.channel import Listener
from infra.simulator.play.session import Session
from infra.simulator.settings import Settings
from infra.simulator.world import Agent, World, new_world

JSON = dict[str, Any]
DEADLINE = 5.0  # seconds; every wait of these tests ends far earlier


def a_world(seed: int = 1, **settings: Any) -> World:
    """A provider with one agent and one environment."""
    world = new_world(Settings(seed=seed, status_lag_seconds=0.0, **settings))
    agent: JSON = {
        "id": "agent_1",
        "type": "agent",
        "version": 1,
        "name": "helper",
        "description": None,
        "model": {"id": "claude-sonnet-5", "speed": "standard"},
        "system": None,
        "tools": [],
        "mcp_servers": [],
        "skills": [],
        "metadata": {},
        "multiagent": None,
        "execution_identity": {"type": "service_account"},
        "created_at": "2026-01-01T00:00:00Z",
        "updated_at": "2026-01-01T00:00:00Z",
    }
    world.agents["agent_1"] = Agent("agent_1", [agent])
    world.environments["env_1"] = {
        "id": "env_1",
        "name": "usual",
        "archived_at": None,
        "config": {"type": "cloud"},
    }
    return world


def message(text: str) -> JSON:
    return {"type": "user.message", "content": [{"type": "text", "text": text}]}


class Client:
    """One client of one session: sends as the API does and reads the stream."""

    def __init__(self, world: World, **create: Any) -> None:
        body = {"agent": "agent_1", "environment_id": "env_1", **create}
        self.world = world
        self.session: Session = born(world, CREATE_SESSION.decode(msgspec.json.encode(body)))
        self.listener = Listener(frozenset({"agent.message", "agent.thinking"}))
        self.session.primary.channel.listeners.add(self.listener)
        self.seen: list[JSON] = []
        self._unread: list[JSON] = []

    def send(self, *events: JSON) -> list[JSON]:
        """Raises ApiError as the endpoint does; returns the answer's events."""
        asked = SEND.decode(msgspec.json.encode({"events": events})).events
        inbox.admit(self.session, asked, self.world.casting)
        filed = inbox.file(self.session, asked)
        self.world.driver.wake(self.session)
        return filed

    async def until(self, stop: Callable[[JSON], bool]) -> JSON:
        """Reads the stream up to the first event that `stop` accepts. TimeoutError if none comes."""
        while True:
            while self._unread:
                event = self._unread.pop(0)
                self.seen.append(event)
                if stop(event):
                    return event
            chunk = await self.listener.next(DEADLINE)
            assert chunk is not None, "the stream ended"
            lines = [line for line in chunk.split(b"\n") if line.startswith(b"data: ")]
            self._unread += [msgspec.json.decode(line[6:]) for line in lines]

    async def idle(self, reason: str) -> JSON:
        """Reads up to an idle event with this stop reason."""
        return await self.until(
            lambda e: e["type"] == "session.status_idle" and e["stop_reason"]["type"] == reason
        )

    def listed(self) -> list[JSON]:
        return [msgspec.json.decode(entry.data) for entry in self.session.primary.log.ordered()]

    def types(self) -> list[str]:
        return [event["type"] for event in self.listed()]

    def everything(self) -> list[JSON]:
        """Every event of every thread, and those that only streams saw."""
        logs = [entry for t in self.session.threads.values() for entry in t.log.ordered()]
        return [msgspec.json.decode(entry.data) for entry in logs] + [
            msgspec.json.decode(data) for data in self.session.stream_only
        ]


def answer(call: str, text: str = "42") -> JSON:
    return {
        "type": "user.custom_tool_result",
        "custom_tool_use_id": call,
        "content": [{"type": "text", "text": text}],
    }


def confirm(call: str, result: str = "allow") -> JSON:
    return {"type": "user.tool_confirmation", "tool_use_id": call, "result": result}


async def play_through(client: Client, prompt: str) -> None:
    """Sends a prompt and answers whatever the session waits for, until the turn has ended."""
    client.send(message(prompt))
    done: set[str] = set()
    while True:
        event = await client.until(
            lambda e: e["type"] in ("session.status_idle", "session.status_terminated")
        )
        reason = event.get("stop_reason", {"type": "terminated"})
        if reason["type"] == "budget_reached":
            client.session.budget = None
            client.world.driver.wake(client.session)
        elif reason["type"] != "requires_action":
            return
        for call in reason.get("event_ids", []):
            if call not in done:
                done.add(call)
                kind = client.session.calls[call].kind
                client.send(confirm(call) if kind == "confirm" else answer(call))
