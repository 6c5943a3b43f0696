"""What waits in a worker is bounded over all its sessions, and every session gets on."""

from __future__ import annotations

import asyncio

import pytest

from services.agent_worker.provider.room import Line, Room
from shared.session.inputs import ProviderEvent
from tests.builders import Wire
from tests.unit.agent_worker.virtual_time import virtual

pytestmark = pytest.mark.unit


async def entering(room: Room, size: int, held: int = 1) -> asyncio.Task[None]:
    task = asyncio.create_task(room.enter(size, held=held))
    await asyncio.sleep(0.001)
    return task


@virtual
async def test_beyond_the_bound_feeds_wait_in_order() -> None:
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
async def test_a_feed_that_holds_nothing_need_not_wait() -> None:
    room = Room(100)
    await room.enter(100, held=0)
    waiting = await entering(room, 10)
    assert (await entering(room, 10, held=0)).done()
    assert not waiting.done()
    waiting.cancel()


@virtual
async def test_an_event_larger_than_all_the_room_has_it_alone() -> None:
    room = Room(100)
    await room.enter(1, held=0)
    large = await entering(room, 500)
    assert not large.done()
    room.leave(1)
    await asyncio.sleep(0.001)
    assert (large.done(), room.taken) == (True, 500)


@virtual
async def test_a_feed_that_gives_up_waiting_holds_nothing() -> None:
    room = Room(100)
    await room.enter(100, held=0)
    gone, other = await entering(room, 80), await entering(room, 20)
    gone.cancel()
    room.leave(100)
    await asyncio.sleep(0.001)
    assert (other.done(), room.taken) == (True, 20)


@virtual
async def test_a_feed_cancelled_as_its_turn_comes_gives_its_room_back() -> None:
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
    line.end(ConnectionError())
    assert await line.take(0.02, 2) == events[:2]
    assert room.taken == whole
    line.done()
    assert room.taken == whole - sum(len(event.raw) for event in events[:2])
    line.close()
    assert room.taken == len(events[0].raw)


def at(number: int, thread: str | None = None, kind: str = "agent.message") -> ProviderEvent:
    """An event with that place in its thread's list."""
    moment = f"2026-11-21T12:00:{number:02d}.000000Z"
    return ProviderEvent(id=f"{thread}{number}", type=kind, at=moment, raw=b"{}", thread_id=thread)


async def put(line: Line, *numbers: int) -> None:
    for number in numbers:
        await line.put(at(number))


async def taken(line: Line) -> tuple[list[int], float]:
    """Places of the next batch, and how long it took to come."""
    began = asyncio.get_running_loop().time()
    batch = await line.take(0.02, 100)
    return [int(event.at[17:19]) for event in batch], asyncio.get_running_loop().time() - began


@virtual
async def test_what_comes_alone_waits_no_longer_than_it_takes_to_settle() -> None:
    line = Line(Room())
    await put(line, 1)
    numbers, waited = await taken(line)
    assert (numbers, round(waited, 6)) == ([1], 0.02)


@virtual
async def test_at_the_end_what_is_there_leaves_at_once_and_then_the_reason_is_told() -> None:
    line, reason = Line(Room()), ConnectionError("gone")
    await put(line, 2, 1)
    line.end(reason)
    assert await taken(line) == ([1, 2], 0.0)
    for _ in range(2):
        with pytest.raises(ConnectionError, match="gone"):
            await line.take(0.02, 100)


@virtual
async def test_who_waits_for_an_event_hears_of_the_end() -> None:
    line = Line(Room())
    waiting = asyncio.create_task(line.take(0.02, 100))
    await asyncio.sleep(1)
    line.end(ConnectionError("gone"))
    with pytest.raises(ConnectionError, match="gone"):
        await waiting


@virtual
async def test_swapped_neighbours_leave_in_the_order_of_their_times() -> None:
    line = Line(Room())
    await put(line, 1, 3, 2, 4)
    numbers, waited = await taken(line)
    assert (numbers, round(waited, 6)) == ([1, 2, 3, 4], 0.02)


@virtual
async def test_neighbours_are_not_parted_by_the_end_of_a_batch() -> None:
    """The first was there for as long as it takes when the other two came."""
    line = Line(Room())
    await put(line, 1)
    await asyncio.sleep(0.0199)
    await put(line, 3)
    first = asyncio.create_task(taken(line))
    await asyncio.sleep(0.0002)
    await put(line, 2)
    assert (await first)[0] == [1]
    assert (await taken(line))[0] == [2, 3]


@virtual
async def test_an_idle_waits_for_nothing() -> None:
    line = Line(Room())
    await put(line, 1)
    await line.put(at(2, kind="session.status_idle"))
    assert await taken(line) == ([1, 2], 0.0)


@virtual
async def test_what_is_taken_back_leaves_its_room_and_never_comes() -> None:
    room = Room()
    line = Line(room)
    await put(line, 1, 2)
    await line.put(at(3, thread="sthr_1"))
    assert [event.at[17:19] for event in line.retract(None)] == ["01", "02"]
    assert room.taken == 2
    assert (await taken(line))[0] == [3]
