"""How long a reader of the live fan-out waits."""

from __future__ import annotations

import asyncio

import pytest

from services.gateway.ports import Entry
from services.gateway.streams.live import Heard, Live, Subscription, read_heading
from tests.unit.gateway.desk import KEY, an_event

pytestmark = pytest.mark.unit


class Reader:
    """One reader, and what is published."""

    def __init__(self) -> None:
        self.live = Live()
        self.subscription: Subscription = self.live.subscribe(KEY, False)

    async def hears(self, seq: int, *, while_waiting: float) -> Heard | None:
        """What it hears of event `seq`, published when it has begun to wait so many seconds."""
        waiting = asyncio.create_task(self.subscription.next(while_waiting))
        await asyncio.sleep(0)
        value = an_event(seq)
        self.live.event(read_heading(value), value)
        return await waiting

    async def waits(self, seconds: float) -> float:
        """How long it waits in vain when it may wait so long."""
        now = asyncio.get_running_loop().time
        began = now()
        async with asyncio.timeout(5):
            assert await self.subscription.next(seconds) is None
        return now() - began


async def test_a_wait_in_vain_ends_in_time_after_one_that_might_have_been_longer() -> None:
    reader = Reader()
    assert await reader.hears(1, while_waiting=60.0) is not None
    assert await reader.waits(0.01) >= 0.009


async def test_a_wait_in_vain_is_not_cut_short_by_an_earlier_one() -> None:
    reader = Reader()
    assert await reader.hears(1, while_waiting=0.02) is not None
    assert await reader.waits(0.06) >= 0.059
    assert await reader.waits(0.0) < 0.06


async def test_an_event_is_written_once_for_all_who_hear_of_it() -> None:
    reader = Reader()
    other = reader.live.subscribe(KEY, True)
    heard = await reader.hears(1, while_waiting=60.0)
    assert await other.next(0.0) is heard
    value = an_event(1)
    heading = read_heading(value)
    assert heard is not None
    assert heard.record == Entry(1, heading.type, heading.at, value).record


async def test_who_leaves_waits_for_nothing() -> None:
    reader = Reader()
    assert await reader.hears(1, while_waiting=60.0) is not None
    reader.live.leave(reader.subscription)
    assert reader.live.readers == 0
