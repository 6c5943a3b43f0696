"""A turn with `deadline_seconds` ends in time: what runs is interrupted, what waits is not sent."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest

from shared.session import decide
from shared.session.commands import Interrupt, Send
from shared.session.events import Turn
from shared.session.inputs import Heard
from tests.builders import Wire, at, bound, elapsed, failed, interrupting, seen, turn
from tests.unit.session.specification import after

pytestmark = pytest.mark.unit


def soon(turn_id: str = "t1", **more: Any) -> Any:
    return turn(turn_id, deadline_seconds=5, **more)


def ends(events: tuple[Any, ...]) -> list[tuple[str, str, str | None]]:
    """Turn, end and reason of each turn that ended, in order."""
    found: list[tuple[str, str, str | None]] = []
    for event in events:
        if event.type in ("turn.interrupted", "turn.completed", "turn.failed", "turn.refused"):
            told = msgspec.json.decode(event.data, type=Turn)
            found.append((told.turn_id, told.status, told.error.type if told.error else None))
    return found


def test_a_deadline_is_counted_from_acceptance() -> None:
    accepted = after().when(soon(second=3))
    accepted.saying("turn.accepted", deadline_at=at(8))
    assert accepted.state.deadline_at == at(8)


def test_a_turn_without_one_says_nothing_of_deadlines() -> None:
    (_, accepted) = after().when(turn()).events
    assert b"deadline" not in bytes(accepted.data)


def test_a_running_turn_is_interrupted_once_and_ends_with_what_was_said() -> None:
    wire = Wire()
    running = after(soon(), bound(), seen(wire.prompt(), wire.message("so far")))
    running.when(elapsed(4)).then()
    late = running.when(elapsed(5))
    late.then("turn.overdue", commands=(Interrupt(turn_id="t1"),))
    assert late.state.deadline_at is None
    again = decide(late.state, elapsed(6))
    assert (again.events, again.commands) == ((), ())
    ended = decide(late.state, seen(wire.interrupted(), wire.idle()))
    assert ends(ended.events) == [("t1", "interrupted", "deadline_exceeded")]
    told = msgspec.json.decode(ended.events[-2].data, type=Turn)
    assert (told.reply, told.error and "deadline_seconds" in told.error.message) == ("so far", True)


def test_an_agent_that_was_done_before_the_interrupt_has_completed_the_turn() -> None:
    wire = Wire()
    late = after(soon(), bound(), seen(wire.prompt()), elapsed(5))
    done = late.when(seen(wire.message("done"), wire.idle()))
    assert ends(done.events) == [("t1", "completed", None)]


def test_a_queued_turn_is_not_sent_and_the_others_go_on() -> None:
    waiting = after(turn(), bound(), soon("t2"), turn("t3"))
    late = waiting.when(elapsed(5)).then("turn.interrupted")
    late.saying("turn.interrupted", turn_id="t2", status="interrupted", started_at=None)
    next_one = decide(late.state, seen(*Wire().reply()))
    (sent,) = [command for command in next_one.commands if isinstance(command, Send)]
    assert sent.turn_id == "t3"


def test_a_turn_that_is_taken_up_too_late_is_not_sent() -> None:
    """The turn before it ended past the deadline, before anybody looked."""
    wire = Wire(second=100)
    taken = after(turn(), bound(), soon("t2")).when(seen(*wire.reply()))
    assert ends(taken.events) == [
        ("t1", "completed", None),
        ("t2", "interrupted", "deadline_exceeded"),
    ]
    assert taken.decision.commands == ()
    assert taken.events[-1].type == "session.idled"


def test_a_turn_that_waits_for_its_next_attempt_ends_at_once() -> None:
    late = after(soon(), failed(chance=0.9, second=4.9)).when(elapsed(5))
    assert ends(late.events) == [("t1", "interrupted", "deadline_exceeded")]


def test_a_turn_whose_provider_session_comes_too_late_is_not_sent() -> None:
    opening = after(soon()).when(elapsed(5))
    opening.then("turn.overdue", commands=(Interrupt(turn_id="t1"),))
    late = decide(opening.state, bound(second=6))
    assert [event.type for event in late.events][:2] == ["turn.started", "turn.interrupted"]
    assert late.commands == ()
    assert late.state.provider_session_id == "sesn_1", "the next turn's"


def test_an_overdue_turn_whose_attempt_fails_is_not_tried_again() -> None:
    late = after(soon(), bound(), elapsed(5)).when(failed(second=6))
    assert ends(late.events) == [("t1", "interrupted", "deadline_exceeded")]


def test_a_turn_that_waits_for_people_is_interrupted() -> None:
    wire = Wire()
    call = wire.tool_use("ask")
    asked = after(soon(), bound(), seen(wire.prompt(), call, wire.idle("requires_action", call.id)))
    late = asked.when(elapsed(5)).then("turn.overdue", commands=(Interrupt(turn_id="t1"),))
    late.saying("turn.overdue", status="requires_action")


def test_somebodys_interrupt_is_not_the_deadline() -> None:
    wire = Wire()
    running = after(soon(), bound(), seen(wire.prompt()), interrupting(2))
    stopped = running.when(seen(wire.interrupted(), wire.idle()))
    assert ends(stopped.events) == [("t1", "interrupted", None)]


def test_the_message_in_the_making_is_kept_where_it_was_never_finished() -> None:
    wire = Wire()
    late = after(soon(), bound(), seen(wire.prompt()), elapsed(5)).state
    heard = Heard(turn_id="t1", first_token_at=at(2), message_id="m", text="Once upon")
    cut = decide(late, seen(wire.interrupted(), wire.idle()), heard=heard)
    assert msgspec.json.decode(cut.events[-2].data)["partial_text"] == "Once upon"
    failing = after(turn(), bound()).state
    fails = decide(failing, failed(final=True), heard=heard)
    assert msgspec.json.decode(fails.events[0].data)["partial_text"] == "Once upon"


def test_a_finished_message_is_no_partial_text() -> None:
    wire = Wire()
    message = wire.message("whole")
    late = after(soon(), bound(), seen(wire.prompt(), message), elapsed(5)).state
    heard = Heard(turn_id="t1", first_token_at=at(2), message_id=message.id, text="whole")
    cut = decide(late, seen(wire.interrupted(), wire.idle()), heard=heard)
    assert b"partial_text" not in bytes(cut.events[-2].data)
