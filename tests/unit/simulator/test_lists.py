"""Pages and cursors over a log that grows, and streams that nobody reads."""

import pytest

from infra.simulator.api.pages import Cursor, backward, decode, encode, forward, page_of
from infra.simulator.errors import ApiError
from infra.simulator.play import channel as channels
from infra.simulator.play.channel import Channel, Listener
from infra.simulator.play.log import Entry, EventLog

pytestmark = pytest.mark.unit


def a_log(processed: str, pending: str = "") -> EventLog:
    log = EventLog()
    for name in processed:
        log.append(Entry(name, "t", 1, b""))
    for name in pending:
        log.queue(Entry(name, "t", None, b""))
    return log


def everything(entry: Entry) -> bool:
    return True


def ids(entries: list[Entry]) -> str:
    return "".join(entry.id for entry in entries)


@pytest.mark.parametrize("limit", [1, 2, 3, 7, 10])
def test_pages_add_up_both_ways(limit: int) -> None:
    log = a_log("abcde", "pq")
    for walk, expected in ((forward, "abcdepq"), (backward, "qpedcba")):
        got, page = "", None
        while True:
            found, page = walk(log, everything, decode(page, "q"), "q", limit)
            got += ids(found)
            if page is None:
                break
        assert got == expected


def test_events_processed_between_pages_are_not_missed() -> None:
    log = a_log("ab", "pq")
    first, page = forward(log, everything, None, "q", 3)
    assert ids(first) == "abp"
    log.append(Entry("c", "t", 2, b""))
    log.append(Entry("p", "t", 3, b""))
    rest, page = forward(log, everything, decode(page, "q"), "q", 10)
    assert page is None
    assert {"c", "q"} <= set(ids(rest))


def test_newest_first_misses_nothing_that_moved() -> None:
    log = a_log("ab", "pq")
    first, page = backward(log, everything, None, "q", 1)
    assert ids(first) == "q"
    log.append(Entry("p", "t", 3, b""))
    rest, _ = backward(log, everything, decode(page, "q"), "q", 10)
    assert {"p", "b", "a"} <= set(ids(rest))


def test_a_cursor_belongs_to_its_query() -> None:
    cursor = encode(Cursor("events:asc", 3))
    with pytest.raises(ApiError, match="another list"):
        decode(cursor, "events:desc")
    with pytest.raises(ApiError, match="not a cursor"):
        decode("garbage!", "events:asc")


def test_pages_of_resources_know_both_neighbours() -> None:
    items = list(range(5))
    page, following, before = page_of(items, None, "q", 2)
    assert (page, before) == ([0, 1], None)
    page, following, before = page_of(items, following, "q", 2)
    assert page == [2, 3]
    assert page_of(items, following, "q", 2)[0] == [4]
    assert page_of(items, before, "q", 2)[0] == [0, 1]


async def test_a_held_record_comes_after_the_next_one() -> None:
    channel, listener = Channel(), Listener(frozenset())
    channel.listeners.add(listener)
    channel.publish(b"1", hold=True)
    channel.publish(b"2")
    chunk = await listener.next(1)
    assert chunk is not None
    assert chunk.index(b"data: 2") < chunk.index(b"data: 1")


async def test_previews_reach_only_those_who_asked() -> None:
    channel = Channel()
    asked, plain = Listener(frozenset({"agent.message"})), Listener(frozenset())
    channel.listeners |= {asked, plain}
    channel.preview("agent.message", b"x")
    assert await asked.next(1) == b"event: message\ndata: x\n\n"
    with pytest.raises(TimeoutError):
        await plain.next(0.001)


async def test_a_listener_that_does_not_read_is_cut_off(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(channels, "MAX_BACKLOG", 3)
    listener = Listener(frozenset())
    for _ in range(5):
        listener.push(b"x")
    assert listener.overflowed
    assert await listener.next(1) == b"xxx"
    assert await listener.next(1) is None
