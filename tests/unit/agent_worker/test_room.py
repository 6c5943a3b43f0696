"""What waits in a worker is bounded over all its sessions, and every session gets on."""

from __future__ import annotations

import asyncio

import pytest

from services.agent_worker.provider.room import Line, Room
from services.agent_worker.session.shell import LARGEST, MOST, Recent
from tests.builders import Wire, turn
from tests.unit.agent_worker.virtual_time import virtual

pytestmark = pytest.mark.unit


async def entering(room: Room, size: int, held: int = 1) -> asyncio.Task[None]:
    task = asyncio.create_task(room.enter(size, held=held))
    await asyncio.sleep(0.001)
    return task


@virtual
async def test_beyond_the_bound_they_wait_in_order() -> None:
    room = Room(100)
    await room.enter(90, held=0)
    first, second = await entering(room, 50), await entering(room, 5)
    assert (first.done(), second.done(), room.taken) == (False, False, 90)
    room.leave(40)
    await asyncio.sleep(0.001)
    assert (first.done(), second.done(), room.taken) == (True, False, 100)
    room.leave(50)
    await asyncio.sleep(0.001)
    assert (second.done(), room.taken) == (True, 55)


@virtual
async def test_who_holds_nothing_need_not_wait() -> None:
    room = Room(100)
    await room.enter(100, held=0)
    waiting = await entering(room, 10)
    assert (await entering(room, 10, held=0)).done()
    assert not waiting.done()
    waiting.cancel()


@virtual
async def test_one_larger_than_all_the_room_has_it_alone() -> None:
    room = Room(100)
    await room.enter(1, held=0)
    large = await entering(room, 500)
    assert not large.done()
    room.leave(1)
    await asyncio.sleep(0.001)
    assert (large.done(), room.taken) == (True, 500)


@virtual
async def test_who_gives_up_waiting_holds_nothing() -> None:
    room = Room(100)
    await room.enter(100, held=0)
    gone, other = await entering(room, 80), await entering(room, 20)
    gone.cancel()
    room.leave(100)
    await asyncio.sleep(0.001)
    assert (other.done(), room.taken) == (True, 20)


@virtual
async def test_who_is_cancelled_as_its_turn_comes_gives_it_back() -> None:
    room = Room(100)
    await room.enter(100, held=0)
    gone = await entering(room, 80)
    room.leave(100)
    gone.cancel()
    await asyncio.gather(gone, return_exceptions=True)
    assert room.taken == 0


@virtual
async def test_a_line_leaves_its_room_when_its_events_are_done_with_or_it_is_closed() -> None:
    room, wire = Room(10_000), Wire()
    line, other = Line(room), Line(room)
    events = [wire.message("x" * 1000) for _ in range(3)]
    for event in events:
        await line.put(event)
    await other.put(events[0])
    whole = room.taken
    assert [await line.get(), line.get_nowait()] == events[:2]
    assert room.taken == whole
    line.done()
    assert room.taken == whole - sum(len(event.raw) for event in events[:2])
    line.close()
    assert room.taken == len(events[0].raw)


def test_only_few_and_small_inputs_are_remembered() -> None:
    recent = Recent()
    for number in range(MOST + 1):
        recent.add(turn(f"t{number}"))
    assert recent.get("turn:t0") is None
    assert recent.get("turn:t1") == turn("t1")
    recent.add(turn("large", "x" * LARGEST))
    assert recent.get("turn:large") is None
