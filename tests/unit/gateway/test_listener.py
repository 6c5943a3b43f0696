"""The listener is ready when it hears, and only then."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence

import pytest

from services.gateway.ports import Record
from services.gateway.register import Register
from services.gateway.streams.live import Listener, Live
from shared.errors import Transient

pytestmark = pytest.mark.unit


async def test_a_listener_is_not_ready_before_it_listens_nor_after_the_log_went_away() -> None:
    begin, end = asyncio.Event(), asyncio.Event()
    asked = asyncio.Queue[int]()

    async def tail() -> AsyncIterator[Sequence[Record]]:
        asked.put_nowait(1)
        await begin.wait()
        yield []
        await end.wait()
        begin.clear()
        raise Transient("kafka_unavailable", "gone")

    listener = Listener(tail, Live(), Register())
    task = asyncio.create_task(listener.run())
    try:
        async with asyncio.timeout(5):
            await asked.get()
            with pytest.raises(Transient, match="not listened to"):
                await listener.check()
            begin.set()
            await listener.listening.wait()
            await listener.check()
            end.set()
            await asked.get()
            with pytest.raises(Transient):
                await listener.check()
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
