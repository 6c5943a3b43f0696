"""The judge finds each kind of broken promise, and nothing where all were kept."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import pytest

from infra.simulator import reply_to
from services.agent_worker.provider.front import HEADING, LOST
from shared.session.caps import CAP_REACHED
from tests.chaos.evidence import Evidence, Made, ProviderSession, Published, Row, in_turn
from tests.chaos.judge import judge
from tests.chaos.moves import COMPLETED, INTERRUPTED, REFUSED, Said

pytestmark = pytest.mark.unit

ONE, TWO = Said("t1", "one"), Said("t2", "two")


def made(ident: str, kind: str, thread: str = "", **fields: Any) -> Made:
    raw = json.dumps({"id": ident, "type": kind, **fields}).encode()
    return Made(ident, kind, thread, raw)


def answer(ident: str, text: str) -> Made:
    return made(ident, "agent.message", content=[{"type": "text", "text": reply_to(text)}])


EVENTS = [
    made("e1", "user.message"),
    answer("e2", "one"),
    made("e3", "session.status_idle"),
    made("e4", "user.message"),
    answer("e5", "two"),
    made("e6", "session.status_idle"),
]
PROVIDER = ProviderSession("sesn_1", [["one"], ["two"]], EVENTS)


def recorded(number: int, turn_id: str, what: Made | str) -> Row:
    if isinstance(what, str):
        return Row(number, f"s:{number}", what, turn_id, "", "", "{}")
    return Row(number, what.id, what.type, turn_id, what.thread, what.id, what.raw.decode())


def numbered(*entries: tuple[str, Made | str]) -> list[Row]:
    return [recorded(number, turn, what) for number, (turn, what) in enumerate(entries, start=1)]


ROWS = numbered(
    ("t1", "turn.accepted"),
    ("t1", "turn.started"),
    *(("t1", event) for event in EVENTS[:3]),
    ("t1", COMPLETED),
    ("t2", "turn.accepted"),
    ("t2", "turn.started"),
    *(("t2", event) for event in EVENTS[3:]),
    ("t2", COMPLETED),
)
GOOD = Evidence("s", [ONE, TWO], [PROVIDER], ROWS, Published(last_seq=len(ROWS)))


def found(evidence: Evidence) -> list[str]:
    return [finding.kind for finding in judge(evidence)]


def rows_without(*seqs: int) -> Sequence[Row]:
    return [row for row in ROWS if row.seq not in seqs]


def provider(**changes: Any) -> Evidence:
    return replace(GOOD, at_provider=[replace(PROVIDER, **changes)])


def test_a_good_run_has_no_findings() -> None:
    assert judge(GOOD) == []


def test_a_turn_that_never_ended_is_lost() -> None:
    evidence = replace(GOOD, rows=ROWS[:-1], published=Published(last_seq=len(ROWS) - 1))
    assert found(evidence) == ["lost"]


def test_a_turn_that_completed_without_its_message_is_lost() -> None:
    assert found(provider(messages=[["two"]])) == ["lost"]


def test_an_end_that_nobody_asked_for_is_a_loss() -> None:
    rows = [replace(row, type=INTERRUPTED) if row.seq == 6 else row for row in ROWS]
    assert found(replace(GOOD, rows=rows)) == ["lost"]
    asked = replace(ONE, ends=frozenset({COMPLETED, INTERRUPTED}))
    assert found(replace(GOOD, rows=rows, accepted=[asked, TWO])) == []


def test_a_message_that_was_sent_twice_is_doubled() -> None:
    assert found(provider(messages=[["one"], ["one"], ["two"]])) == ["doubled"]


def test_a_message_in_another_provider_session_too_is_doubled() -> None:
    other = ProviderSession("sesn_0", [["one"]], [])
    assert "doubled" in found(replace(GOOD, at_provider=[other, PROVIDER]))


def test_turns_in_another_order_than_accepted_are_found() -> None:
    kinds = found(replace(GOOD, accepted=[TWO, ONE]))
    assert kinds == ["out of order", "out of order"], "at the provider, and in the archive"


def test_events_in_another_order_than_the_providers_are_found() -> None:
    events = [EVENTS[0], EVENTS[2], EVENTS[1], *EVENTS[3:]]
    assert found(provider(events=events)) == ["out of order"]


def test_a_late_event_has_no_place_to_keep() -> None:
    late = replace(made("e7", "session.usage"), late=True)
    rows = [*ROWS, recorded(len(ROWS) + 1, "", late)]
    evidence = provider(events=[*EVENTS[:3], late, *EVENTS[3:]])
    assert found(replace(evidence, rows=rows)) == []


def test_an_event_that_is_not_archived_is_missing() -> None:
    assert found(provider(events=[*EVENTS, made("e7", "session.usage")])) == ["missing"]


def test_an_archive_that_lags_behind_the_topic_misses_something() -> None:
    assert found(replace(GOOD, published=Published(last_seq=99))) == ["missing"]


def test_a_hole_in_the_numbers_is_found() -> None:
    assert found(replace(GOOD, rows=rows_without(7))) == ["gaps"]


def test_a_stream_that_skipped_an_event_is_found() -> None:
    assert found(replace(GOOD, heard_wrong=["seq 3 came after 1"])) == ["gaps"]


def test_a_row_that_shows_twice_is_found() -> None:
    assert found(replace(GOOD, rows=[*ROWS[:3], ROWS[2], *ROWS[3:]])) == ["repeated", "repeated"]


def test_two_bodies_for_one_seq_are_found() -> None:
    published = Published(last_seq=len(ROWS), two_bodies=(4,))
    assert found(replace(GOOD, published=published)) == ["repeated"]


def test_an_event_that_nobody_made_is_found() -> None:
    assert found(provider(events=[*EVENTS[:4], *EVENTS[5:]])) == ["wrong"]
    unlisted = frozenset({EVENTS[4].id})
    assert found(provider(events=[*EVENTS[:4], *EVENTS[5:]], unlisted=unlisted)) == []


def test_an_event_that_was_changed_is_found() -> None:
    changed = replace(EVENTS[0], raw=b'{"id": "e1"}')
    assert found(provider(events=[changed, *EVENTS[1:]])) == ["wrong"]


def test_a_reply_to_something_else_is_found() -> None:
    other = answer("e2", "two")
    rows = [replace(r, data=other.raw.decode()) if r.event_id == "e2" else r for r in ROWS]
    evidence = provider(events=[EVENTS[0], other, *EVENTS[2:]])
    assert found(replace(evidence, rows=rows)) == ["wrong"]


def moved(*front: str, **before: Any) -> Evidence:
    """The second turn went to another provider session, with that in front of it."""
    first = replace(PROVIDER, messages=[["one"]], events=EVENTS[:3], **before)
    text = "\n".join([*front, "two"])
    told = replace(made("e5", "agent.message"), raw=answer("e5", text).raw)
    second = ProviderSession("sesn_2", [[*front, "two"]], [EVENTS[3], told, EVENTS[5]])
    rows = [recorded(row.seq, row.turn_id, told) if row.event_id == "e5" else row for row in ROWS]
    return replace(GOOD, at_provider=[first, second], rows=rows)


def steered(reply: str) -> Evidence:
    """The second turn went into the first, which kept the events."""
    events = [made("e1", "user.message"), made("e2", "user.message"), answer("e3", reply)]
    rows = numbered(
        ("t1", "turn.started"),
        ("t2", "turn.started"),
        ("t1", events[0]),
        ("t2", events[1]),
        ("t1", events[2]),
        ("t2", COMPLETED),
        ("t1", COMPLETED),
    )
    rows[1] = replace(rows[1], data=json.dumps({"joined": "t1"}))
    at_provider = [ProviderSession("sesn_1", [["one"], ["two"]], events)]
    return Evidence("s", [ONE, TWO], at_provider, rows, Published(last_seq=len(rows)))


def test_a_turn_that_was_steered_has_the_reply_to_what_steered_it() -> None:
    assert found(steered("two")) == []
    assert found(steered("one")) == ["wrong", "wrong"]


def test_a_provider_session_that_follows_another_carries_what_was_said() -> None:
    assert found(moved(f"{HEADING}\n\nUser: one")) == []
    assert found(moved()) == ["context"]
    assert found(moved(f"{HEADING}\n\nUser: something else")) == ["context"]


def test_only_what_was_deleted_may_be_told_as_lost() -> None:
    assert found(moved(LOST, deleted=True)) == []
    assert found(moved(LOST)) == ["context"]


def test_a_first_provider_session_has_nothing_in_front() -> None:
    text = f"{HEADING}\n\nUser: none"
    assert "context" in found(provider(messages=[[text, "one"], ["two"]]))


CAP = "in this month on user u1"
WORDS = f"the cap of $0.30 {CAP} is reached: $0.31 spent, $0.00 reserved by turns that run"


def refused(words: str = WORDS, capped: str = CAP, **more: Any) -> Evidence:
    """The second turn was refused by a cap."""
    error = {"error": {"type": CAP_REACHED, "message": words}}
    end = Row(len(ROWS) + 1, "s:9", REFUSED, "t2", "", "", json.dumps(error))
    rows = [*ROWS[:6], replace(ROWS[6], seq=7), replace(end, seq=8)]
    at_provider = [replace(PROVIDER, messages=[["one"]], events=EVENTS[:3])]
    shown = {"at_provider": at_provider, **more}
    return replace(GOOD, rows=rows, published=Published(last_seq=8), capped=capped, **shown)


def test_a_small_cap_may_refuse_a_turn() -> None:
    assert found(refused()) == []


def test_a_generous_cap_may_refuse_none() -> None:
    assert found(refused(capped="")) == ["caps"]


def test_a_refusal_names_its_cap_and_comes_when_nothing_is_left() -> None:
    assert found(refused(WORDS.replace("u1", "u2"))) == ["caps"]
    assert found(refused(WORDS.replace("0.31", "0.29"))) == ["caps"]
    assert found(refused("no")) == ["caps"]


def test_nothing_of_a_refused_turn_is_sent() -> None:
    sent = [replace(PROVIDER, messages=[["one"], ["two"]], events=EVENTS[:3])]
    assert found(refused(at_provider=sent)) == ["caps"]


def test_another_refusal_is_a_loss() -> None:
    evidence = refused()
    other = json.dumps({"error": {"type": "session_busy", "message": ""}})
    rows = [*evidence.rows[:-1], replace(evidence.rows[-1], data=other)]
    assert found(replace(evidence, rows=rows)) == ["lost"]


def test_only_what_comes_after_a_retired_session_was_left_need_not_be_there() -> None:
    told = json.dumps({"provider_session_id": "sesn_1", "reason": "done"})
    rotated = replace(recorded(len(ROWS) + 1, "", "session.rotated"), data=told)
    rotated = replace(rotated, at="2026-11-30T12:00:01.000000Z")

    def missed(second: str, *, late: bool = True, **changes: Any) -> list[str]:
        event = made("e9", "session.usage", processed_at=f"2026-11-30T12:00:{second}.000000Z")
        events = [*EVENTS, replace(event, late=late)]
        return found(replace(provider(events=events), rows=[*ROWS, replace(rotated, **changes)]))

    assert missed("02") == []
    assert missed("01") == [], "it was under way"
    assert missed("00") == ["missing"], "it came before"
    assert missed("02", late=False) == ["missing"]
    lost = json.dumps({"provider_session_id": "sesn_1", "reason": "lost"})
    assert missed("02", data=lost) == ["missing"], "not at rest"


def test_provider_sessions_stand_in_the_order_in_which_they_ran() -> None:
    """One whose making seemed to fail is adopted later, by a turn behind those of the one that was made instead."""

    def ran(ident: str, *seconds: int) -> ProviderSession:
        at = [f"2026-11-30T12:00:{second:02}.000000Z" for second in seconds]
        queued = made("q", "user.message")
        events = [
            queued,
            *(made(ident + one, "session.status_running", processed_at=one) for one in at),
        ]
        return ProviderSession(ident, [], events)

    adopted, first, unused = ran("made_first", 30, 31), ran("made_again", 10, 20), ran("unused")
    assert in_turn([unused, adopted, first]) == [first, adopted, unused]
