"""What has come of a play: laws that hold for every run, and what two runs must have in common.

A run with a crash may differ from the quiet one in this, and in nothing else:
- times; when requests are taken in, among the events around them;
- how often an attempt is noted as failed: a refusal that was heard only by the dead process is not known, so there
  may be fewer `turn.retrying`, fewer further `turn.started` and a smaller `attempts`;
- repeats of `user.interrupt`: whether one landed cannot be asked, and one more stops nothing else;
- the end of a provider session, `session.status_terminated` or `session.deleted`: streamed once and never listed,
  so it is missing when nobody listened (`ends` counts it), and then the rotation that follows gives another reason;
- what happened in a provider session that was deleted behind our back and nobody had read: it is gone;
- repeats of dead letters.
"""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass, field
from typing import Any

import msgspec

from shared.bus import topics
from shared.session import Event, SessionState, fold
from shared.session.events import OWN_TYPES, SessionCharged, read_event
from tests.fakes.conversation import Conversation
from tests.unit.agent_worker.outside import Outside

# Times, and what counts events or attempts.
VOLATILE = frozenset(
    {
        "at",
        "started_at",
        "ended_at",
        "first_token_at",
        "first_output_at",
        "retry_at",
        "answer_by",
        "gathers_until",
        "since",
        "silent_since",
        "idle_since",
        "idle_at",
        "archive_at",
        "processed_at",
        "attempts",
        "seq",
        "last_seq",
    }
)
MOVING = ("turn.accepted", "session.archived")
THE_END = ("session.status_terminated", "session.deleted")
Fact = tuple[str, str | None, str | None, str, Any]


@dataclass(frozen=True)
class Outcome:
    """What is compared, but for `ends`. `facts` are the events in order without `requests`, which may move."""

    facts: list[Fact]
    requests: list[Fact]
    state: Any
    dead: list[Any]
    ends: int = field(compare=False)


def outcome(outside: Outside) -> Outcome:
    """What has come of it, after the laws were checked."""
    log = the_log(outside)
    _every_provider_event_once(outside, log)
    assert outside.received == outside.meant, f"the provider got {outside.received}"
    (row,) = outside.store.rows.values()
    assert row.head.state == fold(log), "the row and the log differ"
    assert (row.head.unsaid, row.head.todo) == ((), ()), "something was left unsaid or undone"
    _books_agree(outside, log)
    vanished = {e.id for s in outside.provider.sessions.values() if s.vanished for e in s.log}
    varying = vanished | {event.event_id for event in log if _varies(event, log)}
    facts = [_fact(event) for event in log if event.event_id not in varying]
    return Outcome(
        facts=[fact for fact in facts if fact[0] not in MOVING],
        requests=[fact for fact in facts if fact[0] in MOVING],
        state=_stable_state(row.head.state, varying),
        dead=_dead_letters(outside),
        ends=sum(event.type in THE_END for event in log),
    )


def the_log(outside: Outside) -> list[Event]:
    """The session's events by seq, repeats left out. Raises AssertionError when a law of the log is broken."""
    bodies: dict[int, set[bytes]] = defaultdict(set)
    for said in outside.publisher.records:
        if said.topic == topics.EVENTS.name:
            bodies[read_event(said.value).seq].add(said.value)
    conflicts = [seq for seq, values in bodies.items() if len(values) > 1]
    assert not conflicts, f"two bodies for seq {conflicts}"
    assert sorted(bodies) == list(range(1, len(bodies) + 1)), f"a gap: {sorted(bodies)}"
    return [read_event(value) for seq in sorted(bodies) for value in bodies[seq]]


def _books_agree(outside: Outside, log: list[Event]) -> None:
    """Nothing is reserved for a turn that ended, and what was spent under a cap is what the ledger says."""
    books = outside.store.books
    assert not books.reservations, f"left behind: {books.reservations}"
    charged = [e.data for e in log if e.type == "session.charged"]
    lines = (line for d in charged for line in msgspec.json.decode(d, type=SessionCharged).lines)
    total = sum(line.micro_usd for line in lines)
    assert all(spent == total for spent in books.spent.values()), f"{books.spent} for {total}"


def _every_provider_event_once(outside: Outside, log: list[Event]) -> None:
    sessions = outside.provider.sessions
    assert len(sessions) == 1 + outside.rotations, "a provider session was left behind"
    recorded = [event for event in log if event.type not in OWN_TYPES]
    for session in sessions.values():
        _recorded_once(
            session, [e for e in recorded if e.event_id.startswith(f"sevt_{session.id}_")]
        )
    happened = {event.id for session in sessions.values() for event in session.log}
    assert happened >= {event.event_id for event in recorded}, "recorded what never happened"


def _recorded_once(session: Conversation, recorded: list[Event]) -> None:
    """All that happened, once, in its order; but for its end (two where it is archived and deleted), and what
    nobody can read any more."""
    found = [event.event_id for event in recorded]
    expected = [event.id for event in session.log]
    if session.vanished:
        expected = expected[: len(found)]
    else:
        ends = [event.id for event in session.log[-2:] if event.type in THE_END]
        expected = [id for id in expected if id in found or id not in ends]
    assert found == expected, f"recorded {found}, but the provider did {expected}"
    raw = {event.id: event.raw for event in session.log}
    changed = [e.event_id for e in recorded if bytes(e.data) != raw[e.event_id]]
    assert not changed, f"not verbatim: {changed}"


def _varies(event: Event, log: list[Event]) -> bool:
    before = log[: event.seq - 1]
    if event.type == "turn.started":
        return any((e.type, e.turn_id) == (event.type, event.turn_id) for e in before)
    if event.type == "user.interrupt":
        return any(e.type == event.type for e in before)
    return event.type == "turn.retrying" or event.type in THE_END


def _fact(event: Event) -> Fact:
    id = "" if event.type in OWN_TYPES else event.event_id
    data = _stable(msgspec.json.decode(event.data))
    if event.type == "session.rotated":
        del data["reason"]
    return event.type, event.turn_id, event.thread_id, id, data


def _stable_state(state: SessionState, varying: set[str]) -> Any:
    found = _stable(msgspec.to_builtins(state))
    return {**found, "tail": [id for id in state.tail if id not in varying]}


def _stable(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _stable(inner) for key, inner in value.items() if key not in VOLATILE}
    if isinstance(value, list | tuple):
        return [_stable(inner) for inner in value]
    return value


def _dead_letters(outside: Outside) -> list[Any]:
    letters = {
        (said.value, dict(said.headers)["dead_reason"])
        for said in outside.publisher.records
        if said.topic == topics.DEAD.name
    }
    return sorted(letters)
