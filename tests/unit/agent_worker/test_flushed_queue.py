"""A turn that the provider gave up flushes what is queued; what comes a moment later is queued too, and runs."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest

from services.agent_worker.provider import feed as feeds
from services.agent_worker.provider import stream
from services.agent_worker.provider.feed import SessionFeed
from services.agent_worker.provider.room import Room
from shared.session import decide, initial, provider
from shared.session.inputs import Input, ProviderEvent
from tests.builders import SESSION, TENANT, Wire, at, bound, seen, turn
from tests.unit.agent_worker.virtual_time import run

pytestmark = pytest.mark.unit


class Scripted:
    """A provider session: `streamed` so far, and what the list says now."""

    def __init__(self) -> None:
        self.streamed: asyncio.Queue[bytes] = asyncio.Queue()
        self.listed: list[bytes] = []

    @asynccontextmanager
    async def primary(self, client: Any, session: str) -> AsyncIterator[AsyncIterator[bytes]]:
        yield self._all()

    async def _all(self) -> AsyncIterator[bytes]:
        while True:
            yield await self.streamed.get()

    async def newest_first(self, *_: Any, **__: Any) -> AsyncIterator[list[bytes]]:
        yield self.listed[::-1]


async def _heard(feed: SessionFeed, count: int) -> list[ProviderEvent]:
    found: list[ProviderEvent] = []
    async with asyncio.timeout(30):
        while len(found) < count:
            found += await feed.next()
    return found


@pytest.mark.parametrize("runs", [True, False])
def test_a_message_that_came_behind_the_flush_is_recorded_when_it_is_taken_up(
    monkeypatch: pytest.MonkeyPatch, runs: bool
) -> None:
    wire = Wire()
    begun: tuple[Input, ...] = (turn("t1"), bound(), seen(wire.prompt(), wire.running()))
    state = initial(TENANT, SESSION)
    for input in begun:
        state = decide(state, input).state
    died = [event.raw for event in (wire.error("exhausted"), wire.idle("retries_exhausted"))]
    queued = wire.prompt("left", processed=False)
    body: dict[str, Any] = {"content": [{"type": "text", "text": "left"}]}
    woke, own = wire.running(), wire.event("user.message", **body)
    taken = own.raw.replace(own.id.encode(), queued.id.encode())

    async def main() -> list[ProviderEvent]:
        script = Scripted()
        monkeypatch.setattr(stream, "primary", script.primary)
        monkeypatch.setattr(feeds, "newest_first", script.newest_first)
        feed = SessionFeed(
            None,  # type: ignore[arg-type]
            state,
            fresh=True,
            now=lambda: at(99),
            chance=lambda: 0.5,
            on_preview=lambda raw: None,
            room=Room(),
        )
        await feed.opened()
        script.listed = [*died, queued.raw]
        for raw in died:
            script.streamed.put_nowait(raw)
        if runs:
            await asyncio.sleep(0.5)
            script.listed = [*died, woke.raw, taken]
            script.streamed.put_nowait(woke.raw)
            script.streamed.put_nowait(taken)
        try:
            return await _heard(feed, 4 if runs else 3)
        finally:
            await feed.close()

    heard = run(main())
    prompts = [event for event in heard if event.type == "user.message"]
    (prompt,) = prompts
    assert prompt.id == queued.id
    assert (provider.head(prompt.raw).processed_at is not None) == runs
    idle = [event.type for event in heard].index("session.status_idle")
    assert (heard.index(prompt) > idle) == runs
