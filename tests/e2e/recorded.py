"""Checks that the archive holds what the provider made: every event once, byte for byte, in its thread's order."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable, Sequence
from itertools import pairwise

from tests.e2e.archive import Row
from tests.e2e.provider import Log, Made


def assert_recorded(rows: Sequence[Row], log: Log, late: Iterable[str] = ()) -> None:
    """Compare a session's rows with the log of the provider session behind it.

    The provider lists some events of a child on the primary thread too, under one id and with a time
    of its own: such an event is one row, as either list has it. `late` are ids of events that came
    after their turn's end: they count, their place does not.
    """
    theirs = [row for row in rows if row.provider_event_id]
    made = defaultdict(list)
    for event in log.events:
        made[event.id].append(event)
    found = Counter(row.provider_event_id for row in theirs)
    lost = [(e.type, e.thread, e.raw) for e in log.events if e.id not in found]
    invented = list(found.keys() - made.keys())
    assert not lost, f"lost: {lost}; {len(rows)} rows"
    assert not invented, f"never made: {invented}"
    assert [id for id, times in found.items() if times > 1] == [], "recorded twice"
    for row in theirs:
        wanted = [(event.type, event.raw) for event in made[row.provider_event_id]]
        assert (row.type, row.data.encode()) in wanted, f"seq {row.seq}"
    for thread in {event.thread for event in log.events}:
        got = [row.provider_event_id for row in theirs if row.thread_id == thread]
        listed = [event for event in log.events if event.thread == thread]
        try:
            assert_in_order(got, [event.id for event in listed], set(late))
        except AssertionError as error:
            raise AssertionError(f"{error}\n{_misplaced(got, listed)}") from None


def _misplaced(got: Sequence[str], listed: Sequence[Made]) -> list[tuple[str, bytes]]:
    """Neighbours in the record that the list has the other way round, as the list has them."""
    places = {event.id: place for place, event in enumerate(listed)}
    pairs = [(places[one], places[two]) for one, two in pairwise(got)]
    return [
        (listed[place].type, listed[place].raw)
        for pair in pairs
        if pair[0] > pair[1]
        for place in pair
    ]


def assert_in_order(got: Sequence[str], listed: Sequence[str], late: set[str]) -> None:
    """`got` is all of the provider's list but what was recorded from another thread's, in its order."""
    mine = set(got)
    wanted = [id for id in listed if id in mine and id not in late]
    assert [id for id in got if id not in late] == wanted


def assert_sent_once(log: Log, texts: Sequence[str]) -> None:
    """The provider took exactly these messages, each once, in this order."""
    assert log.prompts == list(texts)


def turn_rows(rows: Iterable[Row], turn_id: str) -> list[str]:
    """The types of a turn's own events (`turn.*`), in order."""
    return [row.type for row in rows if row.turn_id == turn_id and row.type.startswith("turn.")]
