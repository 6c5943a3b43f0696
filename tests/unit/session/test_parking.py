"""A turn that is a dead letter keeps its place: later turns wait until it was redriven or dropped."""

from __future__ import annotations

import pytest

from shared.session import decide
from shared.session.commands import Open, Send
from shared.session.inputs import Filed, TurnDropped, TurnParked
from shared.session.policy import MAX_QUEUED_TURNS
from shared.session.state import SessionState
from tests.builders import (
    Wire,
    archiving,
    bound,
    filed,
    interrupting,
    opening,
    seen,
    turn,
    whose,
)
from tests.unit.session.specification import after, given

pytestmark = pytest.mark.unit


def parking(turn_id: str = "bad", second: float = 0.0) -> Filed:
    request = TurnParked(**whose(second), turn_id=turn_id, user_id="u1", reason="invalid_field")
    return filed(request, f"parked:{turn_id}:{second}")


def dropping(turn_id: str = "bad", second: float = 0.0) -> Filed:
    return filed(TurnDropped(**whose(second), turn_id=turn_id), f"ce:dropped:{turn_id}")


def line(state: SessionState) -> list[str]:
    return [queued.turn.turn_id for queued in state.queue]


def ended(*inputs: Filed) -> tuple[object, ...]:
    """The inputs, then the open turn `t1` completed."""
    wire = Wire()
    return (*inputs, bound(), seen(wire.prompt()), seen(*wire.reply()))


def test_a_parked_turn_is_said_and_opens_an_unknown_session() -> None:
    asked = given().when(parking())
    asked.then("session.opened", "session.parked")
    asked.saying("session.parked", turn_id="bad", reason="invalid_field")
    assert (asked.state.open_turn, asked.state.status) == (None, "idle")


def test_later_turns_are_accepted_and_wait() -> None:
    asked = after(opening(), parking()).when(turn("t2"))
    asked.then("turn.accepted", commands=())
    assert line(asked.state) == ["bad", "t2"]
    assert asked.state.open_turn is None


def test_turns_that_came_before_do_not_wait() -> None:
    inputs = ended(turn("t0"), turn("t1"), parking(), turn("t2"))
    state = after(*inputs).state  # type: ignore[arg-type]
    assert (state.open_turn, line(state)) == ("t1", ["bad", "t2"])


def test_a_session_with_only_a_parked_turn_left_is_idle() -> None:
    state = after(*ended(turn("t1"), parking(), turn("t2"))).state  # type: ignore[arg-type]
    assert (state.open_turn, state.status, line(state)) == (None, "idle", ["bad", "t2"])
    assert state.due_at is None


def test_a_redriven_turn_goes_first_and_the_others_follow() -> None:
    redriven = after(opening(), parking(), turn("t2")).when(turn("bad", second=5))
    redriven.then("turn.accepted", commands=(Open(turn_id="bad"),))
    assert (redriven.state.open_turn, line(redriven.state)) == ("bad", ["t2"])
    wire = Wire()
    told = seen(wire.prompt(), *wire.reply())
    state = decide(decide(redriven.state, bound()).state, told).state
    assert (state.open_turn, line(state)) == ("t2", [])


def test_a_turn_redriven_while_another_runs_keeps_its_place() -> None:
    redriven = after(turn("t0"), parking(), turn("t2")).when(turn("bad"))
    redriven.then("turn.accepted", commands=())
    assert (redriven.state.open_turn, line(redriven.state)) == ("t0", ["bad", "t2"])


def test_of_two_parked_turns_the_second_waits_for_the_first() -> None:
    second = after(opening(), parking("one"), parking("two")).when(turn("two"))
    second.then("turn.accepted", commands=())
    assert (second.state.open_turn, line(second.state)) == (None, ["one", "two"])
    first = decide(second.state, dropping("one"))
    assert first.commands == (Open(turn_id="two"),)


def test_a_dropped_turn_holds_nobody_up() -> None:
    dropped = after(opening(), parking(), turn("t2"), turn("t3")).when(dropping(second=9))
    dropped.then("session.unparked", commands=(Open(turn_id="t2"),))
    assert (dropped.state.open_turn, line(dropped.state)) == ("t2", ["t3"])


def test_after_a_drop_the_next_turn_is_sent_to_the_provider_session_there_is() -> None:
    before = after(*ended(turn("t1"), parking(), turn("t2")))  # type: ignore[arg-type]
    dropped = before.when(dropping())
    send = Send(turn_id="t2", input_id="turn:t2", attempt=1, look=False)
    dropped.then("session.unparked", "turn.started", commands=(send,))


def test_dropping_what_is_not_parked_changes_nothing() -> None:
    after(opening()).when(dropping()).then()
    after(opening(), turn("t1")).when(dropping("t1")).then()
    after(opening(), parking(), dropping()).when(dropping(second=3)).then()


def test_a_turn_that_dies_again_is_parked_once() -> None:
    after(opening(), parking()).when(parking(second=4)).then()


def test_a_turn_that_does_not_wait_is_refused_and_the_parked_one_is_not() -> None:
    asked = after(opening(), parking()).when(turn("t2", on_busy="reject"))
    asked.then("turn.refused")
    after(opening(), parking()).when(turn("bad", on_busy="reject")).then(
        "turn.accepted", commands=(Open(turn_id="bad"),)
    )


def test_coalescing_and_interrupting_turns_wait_as_well() -> None:
    parked = after(opening(), parking())
    parked.when(turn("t2", on_busy="coalesce")).then("turn.accepted").saying(
        "turn.accepted", gathers_until=None
    )
    state = after(opening(), parking(), turn("t2", on_busy="interrupt")).state
    assert line(state) == ["bad", "t2"]
    after(opening(), parking(), turn("t2")).when(interrupting()).then()


def test_an_archived_session_refuses_who_waited_and_says_nothing_of_what_it_never_took() -> None:
    closed = after(opening(), parking(), turn("t2")).when(archiving())
    closed.then("turn.refused", "session.archived").saying("turn.refused", turn_id="t2")
    assert closed.state.queue == ()
    after(opening(), archiving()).when(parking()).then()


def test_a_parked_turn_gets_no_place_in_a_full_queue() -> None:
    full = [turn(f"t{n}") for n in range(MAX_QUEUED_TURNS + 1)]
    after(opening(), *full).when(parking()).then()
