"""A place where sessions run on the Messages API: the driver and the real SDK, on the simulator's model."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import httpx2
import msgspec
from anthropic import AsyncAnthropic

from infra.simulator.server import running
from infra.simulator.settings import Settings
from services.agent_worker.provider.anthropic import connect
from services.agent_worker.provider.messages.agents import Agent
from services.agent_worker.provider.messages.driver import MessagesProvider
from shared.clock import utcnow
from shared.session.inputs import ToolAnswered
from tests.builders import TENANT
from tests.contract.provider_talk import Talk
from tests.fakes.conversations import MemoryConversations
from tests.fakes.profiles import MemoryProfiles

JSON = dict[str, Any]
LOOKUP = {
    "name": "lookup",
    "description": "Looks something up.",
    "input_schema": {"type": "object", "properties": {"query": {"type": "string"}}},
}
AGENT = Agent(
    name="support",
    model="claude-opus-5-5",
    system="You are brief.",
    max_tokens=500,
    tools=(LOOKUP,),
)


class Place:
    """A worker's driver on a simulator, and another worker's on the same store."""

    def __init__(self, url: str, agent: Agent = AGENT) -> None:
        self.url = url
        self.store = MemoryConversations()
        self.profiles = MemoryProfiles()
        self.client: AsyncAnthropic = connect(api_key="key", base_url=url, sessions=20)
        self.agents = {agent.name: agent}
        self.provider: Any = self.driver()

    def driver(self) -> MessagesProvider:
        return MessagesProvider(
            self.client, self.store, self.profiles, self.agents, "support", clock=utcnow
        )

    async def asked(self) -> list[JSON]:
        """The requests for messages that the model saw."""
        async with httpx2.AsyncClient() as http:
            found = (await http.get(f"{self.url}/_sim/messages")).json()["data"]
        return [one for one in found if one["path"] == "/v1/messages"]

    async def faults(self, *rules: JSON) -> None:
        body = msgspec.json.encode({"rules": rules})
        async with httpx2.AsyncClient() as http:
            assert (await http.post(f"{self.url}/_sim/faults", content=body)).status_code == 200


@asynccontextmanager
async def a_place(agent: Agent = AGENT, **settings: Any) -> AsyncIterator[Place]:
    async with running(Settings(port=0, **settings)) as url:
        place = Place(url, agent)
        yield place
        await place.client.close()


def a_talk(place: Place) -> Talk:
    return Talk(place)  # type: ignore[arg-type]


def body(event: Any) -> JSON:
    decoded: JSON = msgspec.json.decode(event.raw)
    return decoded


def kinds(talk: Talk) -> list[str]:
    return [event.type for event in talk.heard]


async def answered(talk: Talk, call: str, text: str = "42") -> None:
    request = ToolAnswered(
        tenant_id=TENANT,
        session_id=talk.state.session_id,
        at="2026-11-30T00:00:00Z",
        custom_tool_use_id=call,
        content=text,
    )
    await talk.world.provider.answer(talk.state, request)


def waiting(idle: Any) -> list[str]:
    ids: list[str] = body(idle)["stop_reason"]["event_ids"]
    return ids
