"""A budget that is used up: the turn waits, goes on once it was raised, and fails when nobody raises it."""

from __future__ import annotations

import msgspec
import pytest

from shared.session import Input
from shared.session.commands import DeadLetter, Open, RaiseBudget, Send
from shared.session.inputs import BudgetRefused
from tests.builders import (
    Wire,
    archiving,
    at,
    bound,
    budget_set,
    elapsed,
    failed,
    interrupting,
    opening,
    raising,
    seen,
    turn,
)
from tests.unit.session.specification import Given, after

pytestmark = pytest.mark.unit

RUNNING: tuple[Input, ...] = (opening(budget_usd=0.5), turn("t1"), bound())
ANSWER_WITHIN = 24 * 3600


def paused(*more: Input, cents: int = 50) -> Given:
    """A turn that the provider stopped at the budget in the middle of its work."""
    wire = Wire()
    said = (wire.prompt(), wire.running(), wire.cost(cents), wire.idle("budget_reached"))
    return after(*RUNNING, *more, seen(*said))


def pause_of(session: Given) -> str:
    waits = session.state.budget_pause
    assert waits is not None
    return waits.tool_use_id


def test_a_reached_budget_waits_for_somebody_to_raise_it() -> None:
    wire = Wire()
    waits = after(*RUNNING).when(seen(wire.prompt(), wire.cost(50), wire.idle("budget_reached")))
    types = [event.type for event in waits.events]
    assert types[-2:] == ["session.status_idle", "turn.requires_action"]
    (action,) = waits.state.pending
    assert (action.kind, action.name) == ("budget", "budget_usd")
    assert msgspec.json.decode(action.input) == {"budget_usd": 0.5, "cost_usd": 0.5}
    assert (waits.state.status, waits.state.awaits_people) == ("requires_action", True)


def test_a_raise_goes_to_the_provider_and_the_same_turn_goes_on_without_another_send() -> None:
    session = paused()
    pause = pause_of(session)
    asked = session.when(raising(0.75, 9))
    command = RaiseBudget(input_id="ce:budget:0.75:9", budget_usd=0.75, pause=pause)
    asked.then(commands=(command,))
    done = Given(asked.state).when(budget_set(0.75, pause, 10))
    done.then("session.budget_raised").saying(
        "session.budget_raised", budget_usd=0.75, resumes=pause
    )
    assert (done.state.budget_usd, done.state.pending, done.state.at_budget) == (0.75, (), False)
    wire = Wire("more", 11)
    went_on = Given(done.state).when(seen(wire.running(), wire.message("well"), wire.idle()))
    assert went_on.events[-2].type == "turn.completed"


def test_a_provider_that_goes_on_before_we_heard_of_the_raise_loses_nothing() -> None:
    session = paused()
    pause = pause_of(session)
    going = session.when(seen(Wire("more", 10).running()))
    assert (going.state.status, going.state.pending) == ("running", ())
    again = Given(going.state).when(seen(Wire("again", 12).idle("budget_reached")))
    late = Given(again.state).when(budget_set(0.75, pause, 14))
    late.saying("session.budget_raised", resumes=None)
    assert late.state.awaits_people, "it has reached the higher budget too"
    assert late.state.at_budget


@pytest.mark.parametrize(
    ("budget_usd", "reason"),
    [(0.25, "budget_not_raised"), (0.5, "budget_not_raised"), (0.504, "budget_not_raised")],
)
def test_a_budget_that_would_not_last_is_refused_and_said(budget_usd: float, reason: str) -> None:
    asked = paused().when(raising(budget_usd, 9))
    asked.saying(
        "session.answer_refused",
        input_type="budget.raised",
        reason=reason,
        tool_use_id=pause_of(paused()),
    )
    (letter,) = asked.decision.commands
    assert isinstance(letter, DeadLetter)
    assert asked.state.awaits_people


def test_a_session_that_began_without_a_budget_can_have_none_added() -> None:
    asked = after(turn("t1"), bound()).when(raising(5.0, 9))
    asked.saying("session.answer_refused", reason="budget_create_only")


def test_a_session_without_a_provider_session_can() -> None:
    asked = after(opening()).when(raising(5.0, 9))
    asked.then(commands=(RaiseBudget(input_id="ce:budget:5.0:9", budget_usd=5.0),))
    assert Given(asked.state).when(budget_set(5.0, "", 10)).state.budget_left == 500


def test_the_same_budget_again_changes_nothing() -> None:
    after(*RUNNING).when(raising(0.5, 9)).then()


def test_what_the_provider_refuses_leaves_the_turn_waiting() -> None:
    session = paused()
    no = BudgetRefused(input_id="ce:budget:9", reason="budget_not_raised", detail="400", at=at(9))
    refused = session.when(no)
    refused.then(
        "session.answer_refused",
        commands=(DeadLetter(input_id="ce:budget:9", reason="budget_not_raised", detail="400"),),
    )
    assert refused.state.awaits_people


def test_nobody_raises_it_in_time_and_the_turn_fails() -> None:
    late = paused().when(elapsed(ANSWER_WITHIN + 100))
    late.then("session.rotated", "turn.failed", "session.idled")
    late.saying("turn.failed", stop_reason="budget_reached")
    assert b'"type":"budget_reached"' in bytes(late.events[1].data)
    assert late.decision.commands == (), "a budget that is used up is no dead letter"


def test_an_interrupt_ends_it_and_a_later_raise_can_not_set_it_going() -> None:
    ended = paused(turn("t2", second=1)).when(interrupting(9))
    types = [event.type for event in ended.events]
    assert types == ["session.rotated", "turn.interrupted", "turn.requires_action"]
    assert (ended.state.open_turn, ended.state.provider_session_id) == ("t2", None)
    raised = Given(ended.state).when(budget_set(2.0, "", 10))
    raised.then("session.budget_raised", commands=(Open(turn_id="t2"),))


def test_an_archived_session_closes_the_provider_session_that_waits() -> None:
    closed = paused().when(archiving(9))
    assert [event.type for event in closed.events] == ["session.archived", "turn.interrupted"]
    assert closed.state.provider_session_id == "sesn_1"


def test_an_agent_that_had_come_to_its_end_completes_the_turn_and_the_next_one_waits() -> None:
    wire = Wire()
    said = (
        wire.prompt(),
        wire.running(),
        wire.message("well"),
        wire.event("session.thread_status_idle", stop_reason={"type": "end_turn"}),
        wire.cost(51),
        wire.idle("budget_reached"),
    )
    ended = after(*RUNNING, turn("t2", second=1)).when(seen(*said))
    types = [event.type for event in ended.events]
    assert types[-2:] == ["turn.completed", "turn.requires_action"]
    ended.saying("turn.completed", reply="well", stop_reason="budget_reached")
    pause = pause_of(Given(ended.state))
    raised = Given(ended.state).when(budget_set(2.0, pause, 20))
    send = Send(turn_id="t2", input_id="turn:t2", attempt=1, look=False)
    raised.then("session.budget_raised", "turn.started", commands=(send,))


def test_a_message_that_the_provider_refuses_for_its_budget_waits_and_is_sent_again() -> None:
    refused = after(*RUNNING).when(failed(reason="budget_reached", final=True, second=3))
    refused.then("turn.requires_action")
    raised = Given(refused.state).when(budget_set(2.0, "budget:t1", 9))
    send = Send(turn_id="t1", input_id="turn:t1", attempt=1, look=False)
    raised.then("session.budget_raised", "turn.started", commands=(send,))


def test_no_provider_session_is_made_with_nothing_left() -> None:
    asked = after(opening(budget_usd=0.004)).when(turn("t1"))
    asked.then("turn.accepted", "turn.requires_action")


def test_a_turn_whose_session_is_lost_with_nothing_left_waits_for_the_budget() -> None:
    wire = Wire()
    said = (wire.prompt(), wire.running(), wire.cost(50), wire.terminated())
    lost = after(*RUNNING, seen(*said)).when(elapsed(100))
    lost.then("turn.requires_action")


def test_a_budget_that_somebody_else_changed_at_the_provider_is_tried() -> None:
    wire = Wire()
    said = wire.reply()
    resting = after(*RUNNING, seen(*said[:-1], wire.idle("budget_reached")))
    assert resting.state.at_budget
    changed = resting.when(seen(Wire("u", 20).event("session.updated", budget=None)))
    assert not changed.state.at_budget


def test_a_turn_past_its_deadline_does_not_wait_for_the_budget() -> None:
    wire = Wire()
    running = after(
        opening(budget_usd=0.5), turn("t1", deadline_seconds=5), bound(), seen(wire.prompt())
    )
    overdue = running.when(elapsed(6))
    assert "turn.overdue" in [event.type for event in overdue.events]
    ended = Given(overdue.state).when(seen(wire.cost(50), wire.idle("budget_reached")))
    assert ended.events[-2].type == "turn.interrupted"
    assert b"deadline" in bytes(ended.events[-2].data)
