"""Does the archive hold what the provider made? Every event once, byte for byte, in its thread's order."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable, Sequence

from tests.e2e.archive import Row
from tests.e2e.provider import Log


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
    assert Counter(row.provider_event_id for row in theirs) == Counter(dict.fromkeys(made, 1))
    for row in theirs:
        wanted = [(event.type, event.raw) for event in made[row.provider_event_id]]
        assert (row.type, row.data.encode()) in wanted, f"seq {row.seq}"
    for thread in {event.thread for event in log.events}:
        got = [row.provider_event_id for row in theirs if row.thread_id == thread]
        assert_in_order(got, [e.id for e in log.events if e.thread == thread], set(late))


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
