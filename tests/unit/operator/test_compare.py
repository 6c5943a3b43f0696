"""What an audit finds in the evidence of one session, and what it leaves alone."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest

from services.operator.audits.compare import Comparison, Patience
from services.operator.audits.evidence import Asked, Head, Listed, ProviderLog, Row, digest
from services.operator.audits.finding import Finding

pytestmark = pytest.mark.unit
NOW = datetime(2026, 11, 21, 12, tzinfo=UTC)
OLD, YOUNG = "2026-11-21T10:00:00.000000Z", "2026-11-21T11:59:59.000000Z"
HEAD = Head("acme", "s1", last_seq=7, status="idle", filed=1, taken=1, position=4)
ASKED = [Asked(4, "turn:t1", "turn.requested", OLD)]
IDLE = "session.status_idle"


def own(seq: int, kind: str, attempts: int = 0) -> Row:
    return Row(seq, kind, "t1", "", "", OLD, attempts=attempts, provider_session_id="sesn_1")


def said(seq: int, kind: str, ident: str, thread: str = "", turn: str = "t1") -> Row:
    return Row(seq, kind, turn, thread, ident, OLD, digest=f"d{ident}")


def listed(kind: str, ident: str, at: str | None = OLD) -> Listed:
    return Listed(ident, kind, at, f"d{ident}")


ROWS = [
    own(1, "turn.accepted"),
    own(2, "turn.started", 1),
    said(3, "user.message", "e1"),
    said(4, "agent.message", "e2"),
    said(5, IDLE, "e3"),
    own(6, "turn.completed", 1),
    own(7, "session.idled"),
]
LISTED = [listed("user.message", "e1"), listed("agent.message", "e2"), listed(IDLE, "e3")]


def found(
    rows: list[Row] = ROWS,
    lists: list[Listed] = LISTED,
    *,
    children: dict[str, list[Listed]] | None = None,
    head: Head = HEAD,
    asked: list[Asked] = ASKED,
    bodies: dict[int, int] | None = None,
) -> list[Finding]:
    logs = [ProviderLog("sesn_1", {"": lists, **(children or {})})]
    patience = Patience(NOW, timedelta(minutes=1), timedelta(minutes=30))
    return list(Comparison(head, rows, bodies or {}, logs, asked, patience).findings())


def kinds(*args: list[Row] | list[Listed], **more: object) -> list[str]:
    return [finding.kind for finding in found(*args, **more)]  # type: ignore[arg-type]


def test_a_whole_session_is_clean() -> None:
    assert found() == []


def test_a_gap_is_one_finding_and_accounts_for_what_the_provider_lists() -> None:
    (gap,) = found([row for row in ROWS if row.seq not in (3, 4)])
    assert (gap.kind, gap.seq, gap.last_seq) == ("missing_in_archive", 3, 4)


def test_a_missing_end_is_known_by_the_head_row() -> None:
    (gap,) = found(head=replace(HEAD, last_seq=9))
    assert (gap.seq, gap.last_seq) == (8, 9)


def test_what_only_the_provider_has_is_told_with_its_id() -> None:
    (only,) = found(lists=[*LISTED, listed("agent.message", "e9")])
    assert (only.kind, only.provider_event_id) == ("only_at_provider", "e9")


@pytest.mark.parametrize("at", [YOUNG, None])
def test_young_and_queued_events_are_not_missed(at: str | None) -> None:
    assert kinds(ROWS, [*LISTED, listed("user.message", "e9", at)]) == []


def test_other_json_and_events_of_nobody_are_found() -> None:
    other = [*LISTED[:1], Listed("e2", "agent.message", OLD, "dx"), LISTED[2]]
    assert kinds(ROWS, other) == ["other_json"]
    assert kinds(ROWS, LISTED[1:]) == ["unknown_to_provider"]


def test_two_bodies_and_one_event_twice_are_found() -> None:
    assert kinds(bodies={3: 2}) == ["two_bodies_for_a_seq"]
    again = [*ROWS, said(8, "agent.message", "e2")]
    assert "event_twice" in kinds(again, head=replace(HEAD, last_seq=8))


def test_wrong_order_within_a_thread_is_found_but_not_of_late_events() -> None:
    assert kinds(ROWS, [LISTED[1], LISTED[0], LISTED[2]]) == ["wrong_order"]
    late = [*ROWS, said(8, "agent.message", "e0")]
    lists = [LISTED[0], listed("agent.message", "e0"), *LISTED[1:]]
    assert kinds(late, lists, head=replace(HEAD, last_seq=8)) == []


def test_children_are_ordered_apart_and_cross_posts_counted_once() -> None:
    rows = [*ROWS[:6], said(7, "agent.message", "c1", thread="sthr_2")]
    children = {"sthr_2": [listed("agent.message", "c1")]}
    assert kinds(rows, [listed("agent.message", "c1"), *LISTED], children=children) == []


def test_messages_of_no_turn_and_more_messages_than_attempts_are_found() -> None:
    stray = [*ROWS[:6], said(7, "user.message", "e4", turn="")]
    lists = [*LISTED, listed("user.message", "e4")]
    assert kinds(stray, lists) == ["message_of_no_turn"]
    twice = [*ROWS[:6], said(7, "user.message", "e4")]
    assert kinds(twice, lists) == ["message_twice"]
    retried = [*twice[:5], own(6, "turn.completed", 2), twice[6]]
    assert kinds(retried, lists) == []


def test_turns_and_inputs_that_went_nowhere_are_found() -> None:
    more = [*ASKED, Asked(5, "turn:t2", "turn.requested", OLD)]
    taken = replace(HEAD, filed=2, taken=2, position=5)
    assert kinds(asked=more, head=taken) == ["turn_lost"]
    waiting = replace(HEAD, filed=2)
    assert kinds(asked=more, head=waiting) == ["input_not_taken"]
    assert kinds(asked=[*ASKED, replace(more[1], at=YOUNG)], head=waiting) == []
    assert kinds(head=replace(HEAD, filed=3)) == ["wrong_count"]


def test_turns_that_never_ended_or_ended_twice_are_found() -> None:
    open_turn = [*ROWS[:5], own(6, "turn.retrying"), ROWS[6]]
    assert kinds(open_turn) == ["turn_never_ended"]
    assert kinds([*ROWS[:5], own(6, "turn.requires_action"), ROWS[6]]) == []
    assert kinds([*ROWS[:6], own(7, "turn.failed")]) == ["turn_ended_twice"]


def test_layout_and_the_time_a_user_event_was_processed_make_no_difference() -> None:
    assert digest('{"a":1,"b":[2]}') == digest(b'{ "b": [2], "a": 1 }')
    queued = '{"type":"user.message","processed_at":null,"id":"e"}'
    assert digest(queued) == digest(queued.replace("null", '"2026-11-21T10:00:00Z"'))
    assert digest('{"a":1}') != digest('{"a":1.0}')
    assert digest('{"a":"\\ud83d"}') != digest("no json")
