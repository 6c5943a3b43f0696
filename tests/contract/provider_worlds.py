"""The two providers that one suite is run on: the one in memory, and the driver of the real API on a simulator.

A world tells what the provider itself saw and made, and lets bad days happen to it.
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any, Protocol

import httpx2
import msgspec

from infra.simulator.server import running
from infra.simulator.settings import Settings
from services.agent_worker.ports import Provider, ProviderFailure
from services.agent_worker.provider.anthropic import AnthropicProvider, connect
from services.agent_worker.provider.opening import Openings
from services.agent_worker.provider.parts import Parts
from shared.clock import utcnow
from tests.fakes.profiles import MemoryProfiles
from tests.fakes.provider import MemoryProvider
from tests.fakes.releases import MemoryReleases

SEND = {"method": "POST", "path": "/v1/sessions/[^/]+/events$"}
LIST = {"method": "GET", "path": "/v1/sessions/[^/]+/events$"}
STREAM = {"method": "GET", "path": "stream$"}


@dataclass(frozen=True, slots=True)
class Refusal:
    """How a provider says no before anything happens, and what the port makes of it."""

    status: int
    reason: str
    retry_after: float | None = None

    @property
    def failure(self) -> ProviderFailure:
        return ProviderFailure(self.reason, "no", retry_after=self.retry_after)


class Log(msgspec.Struct):
    """What one provider session took and made: contents, and events in list order by thread (primary: None)."""

    messages: list[Any]
    events: dict[str | None, list[bytes]]

    def ids(self, thread: str | None = None) -> list[str]:
        return [msgspec.json.decode(raw)["id"] for raw in self.events.get(thread, [])]


class World(Protocol):
    """A provider and its insides."""

    @property
    def provider(self) -> Provider: ...
    async def log(self, session: str) -> Log: ...
    async def release(self, session: str) -> None:
        """Let a held turn go on."""
        ...

    async def retire(self, session: str, *, erase: bool = False) -> None:
        """Archive or delete a session behind the worker's back."""
        ...

    async def refuse(self, refusal: Refusal) -> None:
        """The next send is refused before it lands."""
        ...

    async def lose_answer(self, how: str, *, blind: bool = False) -> None:
        """The next send lands and its answer is lost; `blind`: it can't be looked up either, until `heal`."""
        ...

    async def heal(self) -> None:
        """No more bad days."""
        ...


class MemoryWorld:
    """A MemoryProvider. How an answer gets lost makes no difference to it."""

    def __init__(self) -> None:
        self.provider = MemoryProvider()

    async def log(self, session: str) -> Log:
        conversation = self.provider.sessions[session]
        events: dict[str | None, list[bytes]] = {}
        for event in conversation.log:
            events.setdefault(event.thread_id, []).append(event.raw)
        return Log(conversation.messages, events)

    async def release(self, session: str) -> None:
        self.provider.sessions[session].release()

    async def retire(self, session: str, *, erase: bool = False) -> None:
        await self.provider.close(session, erase=erase)

    async def refuse(self, refusal: Refusal) -> None:
        self.provider.refusals.append(refusal.failure)

    async def lose_answer(self, how: str, *, blind: bool = False) -> None:
        lost = ProviderFailure("provider_unreachable", how) if blind else None
        self.provider.lost_answers.append(lost)

    async def heal(self) -> None:
        self.provider.refusals.clear()
        self.provider.lost_answers.clear()


class _Thread(msgspec.Struct):
    events: list[msgspec.Raw]


class _SimulatorLog(msgspec.Struct):
    user_messages: list[dict[str, Any]]
    events: list[msgspec.Raw]
    threads: dict[str, _Thread]


class WireWorld:
    """The real driver and SDK on a simulator at `url`."""

    def __init__(self, url: str) -> None:
        self.client = connect(api_key="key", base_url=url, sessions=50)
        openings = Openings(
            self.client,
            Parts(
                self.client,
                agent=None,
                environment=None,
                model="claude-sonnet-5",
                releases=MemoryReleases(),
            ),
        )
        self.profiles = MemoryProfiles()
        self.provider = AnthropicProvider(
            self.client, openings, self.profiles, clock=utcnow, chance=lambda: 0.0
        )
        self._http = httpx2.AsyncClient(base_url=url, timeout=10)

    async def log(self, session: str) -> Log:
        answer = await self._http.get(f"/_sim/sessions/{session}")
        found = msgspec.json.decode(answer.content, type=_SimulatorLog)
        events: dict[str | None, list[bytes]] = {None: [bytes(raw) for raw in found.events]}
        events |= {
            id: [bytes(raw) for raw in thread.events] for id, thread in found.threads.items()
        }
        return Log([message["content"] for message in found.user_messages], events)

    async def release(self, session: str) -> None:
        await self._http.post(f"/_sim/sessions/{session}/release")

    async def retire(self, session: str, *, erase: bool = False) -> None:
        await self.client.beta.sessions.archive(session)
        if erase:
            await self.client.beta.sessions.delete(session)

    async def refuse(self, refusal: Refusal) -> None:
        headers = {"Retry-After": str(refusal.retry_after)} if refusal.retry_after else {}
        fault = {"kind": "respond", "status": refusal.status, "headers": headers}
        await self.rules({"match": {**SEND, "times": 1}, "fault": fault})

    async def lose_answer(self, how: str, *, blind: bool = False) -> None:
        lost = {"match": {**SEND, "times": 1}, "fault": {"kind": how, "seconds": 5.0}}
        away = {"match": LIST, "fault": {"kind": "respond", "status": 503}}
        await self.rules(*([lost, away] if blind else [lost]))

    async def rules(self, *rules: Any) -> None:
        """Faults in the simulator's own words, instead of those that were there."""
        answer = await self._http.post("/_sim/faults", json={"rules": list(rules)})
        assert answer.status_code == 200, answer.text

    async def made_for(self, session_id: str) -> list[str]:
        """Ids of the provider sessions made for a session of ours, oldest first."""
        found = (await self._http.get("/_sim/sessions")).json()["data"]
        return [s["id"] for s in found if f"/{session_id}" in "".join(s["metadata"].values())]

    async def requests(self) -> list[dict[str, Any]]:
        """What the API was asked, oldest first."""
        found: list[dict[str, Any]] = (await self._http.get("/_sim/requests")).json()["data"]
        return found

    async def heal(self) -> None:
        await self._http.delete("/_sim/faults")

    async def close(self) -> None:
        await self.client.close()
        await self._http.aclose()


@asynccontextmanager
async def wire_world() -> AsyncIterator[WireWorld]:
    """A simulator inside this process, without lag in what it says of a session's status."""
    async with running(Settings(port=0, status_lag_seconds=0.0, mix={"reply": 1})) as url:
        world = WireWorld(url)
        yield world
        await world.close()
