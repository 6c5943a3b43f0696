"""The worker's ports with every side effect counted: see `effects.py`."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Collection, Mapping, Sequence
from contextlib import asynccontextmanager
from typing import Any

from services.agent_worker.ports import (
    Head,
    InputRecord,
    Money,
    NewInput,
    ProviderFeed,
    ProviderSession,
    Unread,
)
from shared.session.commands import DeadLetter
from shared.session.events import Event
from shared.session.inputs import Filed, ProviderEvent
from shared.session.key import SessionKey
from shared.session.state import SessionState
from tests.fakes.inputs import MemoryMember
from tests.fakes.provider import MemoryProvider
from tests.fakes.publisher import MemoryPublisher
from tests.fakes.store import MemoryStore
from tests.unit.agent_worker.effects import Effects, Tempo


class CountedStore:
    """Store. A claim that finds nothing and an extension of nothing are no effects."""

    def __init__(self, inner: MemoryStore, effects: Effects, tempo: Tempo, due: Callable[[], bool]):
        self._inner = inner
        self._effects = effects
        self._far = tempo.store
        self._due = due

    async def file(self, inputs: Sequence[NewInput]) -> set[SessionKey]:
        return await self._effects.do("file", self._far, lambda: self._inner.file(inputs))

    async def claim(self, owner: str, limit: int, lease_seconds: float) -> list[Head]:
        def act() -> Any:
            return self._inner.claim(owner, limit, lease_seconds)

        if not self._due():
            await self._effects.alive()
            return []
        return await self._effects.do("claim", self._far, act)

    async def extend(self, owner: str, lease_seconds: float) -> Mapping[SessionKey, int]:
        def act() -> Any:
            return self._inner.extend(owner, lease_seconds)

        if not any(row.owner == owner for row in self._inner.moving.values()):
            await self._effects.alive()
            return {}
        return await self._effects.do("extend", self._far, act)

    async def let_go(self, owner: str, keys: Collection[SessionKey], after_seconds: float) -> None:
        def act() -> Any:
            return self._inner.let_go(owner, keys, after_seconds)

        await self._effects.do("let_go", self._far, act)

    async def with_news(self, owner: str) -> set[SessionKey]:
        await self._effects.alive()
        return await self._inner.with_news(owner)

    async def unread(self, key: SessionKey, after: int) -> list[Unread]:
        await self._effects.alive(self._far)
        return await self._inner.unread(key, after)

    async def read(self, key: SessionKey, input_id: str) -> Filed:
        await self._effects.alive(self._far)
        return await self._inner.read(key, input_id)

    async def write(self, head: Head, money: Money | None = None) -> Head:
        return await self._effects.do("write", self._far, lambda: self._inner.write(head, money))

    async def take_in(self, head: Head, inputs: Sequence[NewInput]) -> Head | None:
        def act() -> Any:
            return self._inner.take_in(head, inputs)

        return await self._effects.do("take_in", self._far, act)

    async def release(self, head: Head, due_at: str | None) -> None:
        await self._effects.do("release", self._far, lambda: self._inner.release(head, due_at))

    async def erase(self, head: Head, due_at: str | None) -> None:
        await self._effects.do("erase", self._far, lambda: self._inner.erase(head, due_at))


class CountedPublisher:
    """Publisher. Each record is an effect of its own: a crash may come between two of one call."""

    def __init__(self, inner: MemoryPublisher, effects: Effects, tempo: Tempo) -> None:
        self._inner = inner
        self._effects = effects
        self._far = tempo.publisher

    async def say(self, events: Sequence[Event], parent_of: Callable[[Event], str]) -> None:
        for event in events:
            await self._say(event, parent_of)

    async def _say(self, event: Event, parent_of: Callable[[Event], str]) -> None:
        await self._effects.do("say", self._far, lambda: self._inner.say([event], parent_of))

    def preview(self, state: SessionState, raw: bytes, turn_id: str | None) -> None:
        if not self._effects.dead:
            self._inner.preview(state, raw, turn_id)

    async def bury(self, key: SessionKey, filed: Filed, why: DeadLetter) -> None:
        def act() -> Any:
            return self._inner.bury(key, filed, why)

        await self._effects.do("bury", self._far, act)


class CountedProvider:
    """Provider. The message is on its way as `state` was when it was asked for, however long the way takes."""

    def __init__(self, inner: MemoryProvider, effects: Effects, tempo: Tempo) -> None:
        self._inner = inner
        self._effects = effects
        self._far = tempo.provider

    async def open(self, state: SessionState, *, look: bool) -> ProviderSession:
        return await self._effects.do("open", self._far, lambda: self._inner.open(state, look=look))

    async def send(self, state: SessionState, content: Any, *, look: bool) -> None:
        def act() -> Any:
            return self._inner.send(state, content, look=look)

        await self._effects.do("send", self._far, act)

    async def interrupt(self, state: SessionState) -> None:
        await self._effects.do("interrupt", self._far, lambda: self._inner.interrupt(state))

    async def answer(self, state: SessionState, request: Any) -> None:
        await self._effects.do("answer", self._far, lambda: self._inner.answer(state, request))

    async def set_budget(self, provider_session_id: str, cents: int) -> None:
        def act() -> Any:
            return self._inner.set_budget(provider_session_id, cents)

        await self._effects.do("set_budget", self._far, act)

    async def close(self, provider_session_id: str, *, erase: bool) -> None:
        def act() -> Any:
            return self._inner.close(provider_session_id, erase=erase)

        await self._effects.do("close", self._far, act)

    @asynccontextmanager
    async def watch(
        self, state: SessionState, *, fresh: bool, on_preview: Callable[[bytes], None]
    ) -> AsyncIterator[ProviderFeed]:
        await self._effects.alive(self._far + self._effects.slow.get("watch", 0.0))
        self._effects.fail("watch")
        async with self._inner.watch(state, fresh=fresh, on_preview=on_preview) as feed:
            yield CountedProviderFeed(feed, self._effects, self._far)


class CountedProviderFeed:
    """Feed: it only reads."""

    def __init__(self, inner: ProviderFeed, effects: Effects, far: float) -> None:
        self._inner = inner
        self._effects = effects
        self._far = far
        self._before: tuple[ProviderEvent, ...] = ()

    async def opened(self) -> None:
        await self._effects.alive(self._far)
        await self._inner.opened()

    async def next(self) -> tuple[ProviderEvent, ...]:
        events = await self._inner.next()
        await self._effects.alive(self._far + self._effects.slow.get("next", 0.0))
        self._effects.fail("next")
        before, self._before = self._before, events
        if self._effects.repeats and before:
            self._effects.repeats -= 1
            return *before, *events
        return events


class CountedInputConsumer:
    """Inputs: only the commit is an effect."""

    def __init__(self, inner: MemoryMember, effects: Effects, tempo: Tempo) -> None:
        self._inner = inner
        self._effects = effects
        self._far = tempo.publisher

    async def batch(self) -> Sequence[InputRecord]:
        records = await self._inner.batch()
        await self._effects.alive(self._far)
        return records

    async def commit(self) -> None:
        await self._effects.do("commit", self._far, self._inner.commit)

    async def leave(self) -> None:
        await self._inner.leave()
