"""One session as the worker has it: what it asks of the provider, and what it heard, folded by the core."""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import msgspec
from msgspec.structs import replace

from services.agent_worker.ports import ProviderFeed, ProviderSession
from shared.clock import utcnow
from shared.moment import rfc3339
from shared.session import decide, initial, provider
from shared.session.fingerprint import fingerprint
from shared.session.inputs import (
    Bound,
    Filed,
    Input,
    ProviderEvent,
    Seen,
    ToolAnswered,
    ToolConfirmed,
    TurnRequested,
)
from shared.session.outcome import fields
from tests.builders import TENANT, USER
from tests.contract.provider_worlds import World

DEADLINE_S = 20.0
_numbers = itertools.count(1)


def new_session() -> str:
    """A session nobody else speaks of."""
    return f"ses_{next(_numbers)}"


class Talk:
    """`heard` are all events that came, in order; `previews` the deltas; `told` the types of the core's events."""

    def __init__(self, world: World, session_id: str = "") -> None:
        self.world = world
        self.state = initial(TENANT, session_id or new_session())
        self.heard: list[ProviderEvent] = []
        self.told: list[str] = []
        self.previews: list[dict[str, Any]] = []
        self._turns = itertools.count(1)
        self._feed: ProviderFeed | None = None
        self._session = ""

    @property
    def session(self) -> str:
        """Id of the provider session, of the last one when it was lost."""
        self._session = self.state.provider_session_id or self._session
        return self._session

    def take(self, input: Input) -> None:
        """Let the core decide; its commands are the test's to give."""
        decision = decide(self.state, input)
        self.state = decision.state
        self.told += [event.type for event in decision.events]

    def ask(self, content: Any) -> None:
        """A new turn, as far as the worker's state goes."""
        turn_id = f"t{next(self._turns)}"
        self.take(Filed(input_id=f"turn:{turn_id}", request=self._turn(turn_id, content)))

    async def open(self, *, look: bool = False) -> ProviderSession:
        """Open a provider session for the turn that was asked for (any, when none was) and bind to it."""
        if self.state.turn is None:
            self.ask("hello")
        made = await self.world.provider.open(self.state, look=look)
        now = rfc3339(utcnow())
        self.take(Bound(provider_session_id=made.id, agent=made.agent, model=made.model, at=now))
        self._session = made.id
        return made

    @asynccontextmanager
    async def watching(self, *, fresh: bool = False) -> AsyncIterator[ProviderFeed]:
        """Listen, once events are listened for."""
        preview = self._preview
        async with self.world.provider.watch(self.state, fresh=fresh, on_preview=preview) as feed:
            async with asyncio.timeout(DEADLINE_S):
                await feed.opened()
            self._feed = feed
            yield feed

    async def send(self, content: Any, *, look: bool = False) -> None:
        """Send it as the open turn's message, whatever was asked for: of other words it would be nobody's."""
        if self.state.progress is not None:
            progress = replace(self.state.progress, prompt=fingerprint(content))
            self.state = replace(self.state, progress=progress)
        await self.world.provider.send(self.state, content, look=look)

    async def hear(self, kind: str = "session.status_idle", count: int = 1) -> ProviderEvent:
        """Hear until `count` more events of that type have come; answers the last. TimeoutError when they don't."""
        assert self._feed is not None
        start = len(self.heard)
        async with asyncio.timeout(DEADLINE_S):
            while True:
                found = [event for event in self.heard[start:] if event.type == kind]
                if len(found) >= count:
                    return found[count - 1]
                batch = await self._feed.next()
                assert batch, "a feed never gives nothing"
                self.heard += batch
                self.take(Seen(events=batch, at=rfc3339(utcnow())))

    async def turn(self, content: Any) -> ProviderEvent:
        """Ask, send and hear until the agent rests; answers the idle."""
        if self.state.turn is None:
            self.ask(content)
        await self.send(content)
        return await self.hear()

    async def confirm(self, call: str, result: Any = "allow") -> None:
        request = ToolConfirmed(tool_use_id=call, result=result, **self._whose())
        await self.world.provider.answer(self.state, request)

    async def answer(self, call: str, content: Any = "42") -> None:
        request = ToolAnswered(custom_tool_use_id=call, content=content, **self._whose())
        await self.world.provider.answer(self.state, request)

    async def interrupt(self) -> None:
        await self.world.provider.interrupt(self.state)

    async def sent(self) -> list[str]:
        """The texts of the user messages that the provider took, in order."""
        log = await self.world.log(self.session)
        return ["\n".join(block["text"] for block in content) for content in log.messages]

    async def check_all_heard_once(self) -> None:
        """Every event of the provider's log was heard once, in its order by thread, byte for byte."""
        log = await self.world.log(self.session)
        for thread, expected in log.events.items():
            came = [event for event in self.heard if event.thread_id == thread]
            # A call of a child is shown by both threads under one id, and recorded once.
            other = {event.id for event in self.heard if event.thread_id != thread}
            wanted = [raw for raw in expected if provider.head(raw).id not in other]
            assert [(e.id, e.type) for e in came] == [head(raw) for raw in wanted], thread
            assert [event.raw for event in came] == wanted, thread
        ids = [event.id for event in self.heard]
        assert len(ids) == len(set(ids)), "an event came twice"

    def _preview(self, raw: bytes) -> None:
        self.previews.append(msgspec.json.decode(raw))

    def _turn(self, turn_id: str, content: Any) -> TurnRequested:
        return TurnRequested(user_id=USER, turn_id=turn_id, **fields(content), **self._whose())

    def _whose(self) -> dict[str, Any]:
        return {
            "tenant_id": self.state.tenant_id,
            "session_id": self.state.session_id,
            "at": rfc3339(utcnow()),
        }


def head(raw: bytes) -> tuple[str, str]:
    found = provider.head(raw)
    return found.id, found.type


def stop_reason(idle: ProviderEvent) -> str:
    return provider.stop_reason(idle.raw).type
