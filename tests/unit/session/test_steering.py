"""Turns that steer the one that runs: a message of their own, in the middle of its work."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest

from shared.session.commands import DeadLetter, Interrupt, Send, Steer
from shared.session.events import TURN_ENDS, Event, Turn, TurnStarted
from shared.session.inputs import Filed, Input
from shared.session.policy import Policy
from tests.builders import (
    Wire,
    archiving,
    at,
    bound,
    budget_set,
    confirming,
    elapsed,
    failed,
    interrupting,
    opening,
    seen,
    silent,
    turn,
)
from tests.unit.session.specification import Given, Then, after

pytestmark = pytest.mark.unit

STEER = Steer(turn_id="t2", input_id="turn:t2", joins="t1")


def steering(n: int = 2, text: str = "left", second: float = 5.0, **more: Any) -> Filed:
    return turn(f"t{n}", text, second, on_busy="steer", **more)


def working(wire: Wire, **more: Any) -> tuple[Input, ...]:
    """The agent has the message of t1 and is at work on it."""
    return (turn("t1", **more), bound(), seen(wire.prompt(), wire.running()))


def ends(events: tuple[Event, ...]) -> dict[str, tuple[str, Turn]]:
    found = [e for e in events if e.type in TURN_ENDS]
    turns = ((e.type, msgspec.json.decode(e.data, type=Turn)) for e in found)
    return {turn.turn_id: (kind, turn) for kind, turn in turns}


def again(attempt: int = 2) -> Send:
    """It goes on by itself, and its message is looked for."""
    return Send(turn_id="t2", input_id="turn:t2", attempt=attempt, look=True)


def test_it_goes_out_at_once_while_a_turn_runs() -> None:
    sent = after(*working(Wire())).when(steering())
    sent.then("turn.accepted", "turn.started", commands=(STEER,))
    sent.saying("turn.started", turn_id="t2", joined="t1", started_at=at(5), attempts=1)
    sent.saying("turn.accepted", on_busy="steer", behind="t1")
    assert sent.state.open_turn == "t1"
    assert not sent.state.queue


def test_with_nothing_to_steer_it_is_a_turn_like_others() -> None:
    ours = after(steering(1), bound()).when(seen(*Wire().reply("left")))
    assert ends(ours.events)["t1"][0] == "turn.completed"


def test_it_ends_with_the_turn_it_joined_which_keeps_what_it_cost() -> None:
    wire = Wire()
    joined = after(*working(wire), steering()).when(
        seen(wire.prompt("left"), wire.message("went left"), wire.spent(100, 10), wire.idle())
    )
    message, said = joined.events[:2]
    assert (message.type, message.turn_id) == ("user.message", "t2")
    assert (said.type, said.turn_id) == ("agent.message", "t1")
    ended = ends(joined.events)
    assert {id: kind for id, (kind, _) in ended.items()} == dict.fromkeys(
        ("t1", "t2"), "turn.completed"
    )
    lead, steered = ended["t1"][1], ended["t2"][1]
    assert lead.reply == steered.reply == "went left"
    assert lead.usage.input_tokens == 100
    assert (steered.usage.input_tokens, steered.cost_usd) == (0, 0.0)
    assert steered.first_token_at is None  # what came before it was not its own
    assert joined.decision.commands == ()
    assert joined.state.turn is None


def test_one_that_comes_too_late_goes_on_as_the_next_turn() -> None:
    """The provider was idle without having taken it up: it runs by itself, and no second message is sent."""
    wire = Wire()
    late = after(*working(wire), steering()).when(seen(wire.message("done"), wire.idle()))
    assert list(ends(late.events)) == ["t1"]
    assert late.state.open_turn == "t2"
    assert late.decision.commands == (again(),)
    own = given_state(late).when(
        seen(wire.running(), wire.prompt("left"), wire.message("went left"), wire.idle())
    )
    assert {event.turn_id for event in own.events if event.type.startswith("agent")} == {"t2"}
    kind, ended = ends(own.events)["t2"]
    assert (kind, ended.reply, ended.attempts) == ("turn.completed", "went left", 2)


def given_state(then: Then) -> Given:
    return Given(then.state)


def test_it_does_not_overtake_turns_that_wait() -> None:
    wire = Wire()
    waiting = after(*working(wire), turn("t3", "next", 3)).when(steering())
    waiting.then("turn.accepted")
    waiting.saying("turn.accepted", behind="t3")
    # Once it is next in line it steers the one before it.
    begun = given_state(waiting).when(seen(wire.idle(), wire.prompt("next")))
    assert Steer(turn_id="t2", input_id="turn:t2", joins="t3") in begun.decision.commands


def test_before_the_agent_has_the_message_of_the_turn_it_waits() -> None:
    waiting = after(turn("t1"), bound()).when(steering(second=0.5))
    waiting.then("turn.accepted")
    wire = Wire()
    prompted = given_state(waiting).when(seen(wire.prompt()))
    prompted.then("user.message", "turn.started", commands=(STEER,))


def test_one_is_on_its_way_at_a_time() -> None:
    wire = Wire()
    second = after(*working(wire), steering()).when(steering(3, "right", 6))
    second.then("turn.accepted")
    taken = given_state(second).when(seen(wire.prompt("left")))
    follows = Steer(turn_id="t3", input_id="turn:t3", joins="t1")
    taken.then("user.message", "turn.started", commands=(follows,))


@pytest.mark.parametrize("text", ["hello", [{"type": "text", "text": " hel lo"}]])
def test_what_could_not_be_told_from_the_turns_own_message_waits(text: object) -> None:
    after(*working(Wire())).when(steering(text=text)).then("turn.accepted")  # type: ignore[arg-type]


def test_a_message_without_words_of_its_own_waits() -> None:
    picture = {"type": "image", "source": {"type": "file", "file_id": "f1"}}
    after(*working(Wire())).when(turn("t2", [picture], 5, on_busy="steer")).then("turn.accepted")


def test_while_people_are_asked_it_waits_and_then_steers() -> None:
    wire = Wire()
    call = wire.tool_use("ask")
    asked = (*working(wire), seen(call, wire.idle("requires_action", call.id)))
    waiting = after(*asked).when(steering())
    waiting.then("turn.accepted")
    answered = after(*asked, steering(), confirming(call.id, 6)).when(
        seen(wire.confirmed(call.id), wire.running())
    )
    assert answered.decision.commands == (STEER,)


def test_under_a_cap_it_waits_and_reserves_for_itself() -> None:
    wire = Wire()
    capped = Policy(capped=True)
    given_working = after(*working(wire))
    given_working.when(steering(), capped).then("turn.accepted")
    begun = after(*working(wire), turn("t2", "left", 5)).when(seen(wire.idle()), capped)
    assert "turn.reserved" in [event.type for event in begun.events]


@pytest.mark.parametrize(
    ("lead", "own", "goes"),
    [(None, 60, False), (30, 60, True), (90, 60, False), (30, None, True)],
)
def test_a_deadline_of_its_own_must_be_kept_by_that_of_the_turn_it_joins(
    lead: float | None, own: float | None, goes: bool
) -> None:
    steered = after(*working(Wire(), deadline_seconds=lead)).when(steering(deadline_seconds=own))
    assert steered.decision.commands == ((STEER,) if goes else ())


def test_an_interrupt_ends_both_once_the_agent_has_both() -> None:
    wire = Wire()
    both = after(*working(wire), steering(), seen(wire.prompt("left")))
    stopped = both.when(interrupting(9))
    stopped.then(commands=(Interrupt(turn_id="t1"),))
    over = given_state(stopped).when(seen(wire.interrupted(), wire.idle()))
    assert {id: kind for id, (kind, _) in ends(over.events).items()} == dict.fromkeys(
        ("t1", "t2"), "turn.interrupted"
    )


def test_an_interrupt_leaves_the_one_that_is_still_on_its_way() -> None:
    wire = Wire()
    over = after(*working(wire), steering(), interrupting(9)).when(
        seen(wire.interrupted(), wire.idle())
    )
    assert list(ends(over.events)) == ["t1"]
    assert over.decision.commands == (again(),)


def test_an_interrupt_that_is_on_its_way_lets_none_follow() -> None:
    wire = Wire()
    after(*working(wire), seen(wire.interrupted())).when(steering()).then("turn.accepted")


def test_flushed_with_an_exhausted_turn_it_goes_out_again_behind_it() -> None:
    wire = Wire()
    flushed = after(*working(wire), steering()).when(
        seen(wire.error("exhausted"), wire.prompt("left", processed=False), wire.idle())
    )
    assert "turn.retrying" in [event.type for event in flushed.events]
    assert not ends(flushed.events)
    retried = given_state(flushed).when(elapsed(1000))
    assert retried.decision.commands[0] == Send(
        turn_id="t1", input_id="turn:t1", attempt=2, look=True
    )
    done = given_state(retried).when(seen(*wire.reply()))
    assert done.decision.commands == (again(),)


def test_landed_behind_the_flush_it_is_not_sent_again() -> None:
    """The agent takes it up while the turn waits for its next attempt: both end with that."""
    wire = Wire()
    waits = after(*working(wire), steering(), seen(wire.error("exhausted"), wire.idle()))
    ran = waits.when(seen(wire.running(), wire.prompt("left"), wire.message("ok"), wire.idle()))
    assert not ends(ran.events)
    retried = given_state(ran).when(elapsed(1000))
    assert retried.decision.commands[0].riders == ()  # type: ignore[union-attr]
    done = given_state(retried).when(seen(*wire.reply()))
    assert set(ends(done.events)) == {"t1", "t2"}
    assert done.decision.commands == ()


def test_taken_up_by_an_attempt_that_failed_it_goes_along_in_the_next_message() -> None:
    wire = Wire()
    died = seen(wire.prompt("left"), wire.error("exhausted"), wire.idle())
    again_both = after(*working(wire), steering(), died).when(elapsed(1000))
    (send,) = again_both.decision.commands
    assert isinstance(send, Send)
    assert (send.turn_id, send.riders) == ("t1", ("turn:t2",))
    started = [msgspec.json.decode(e.data, type=TurnStarted) for e in again_both.events]
    assert [(s.turn_id, s.attempts, s.joined) for s in started] == [
        ("t1", 2, None),
        ("t2", 2, "t1"),
    ]
    done = given_state(again_both).when(seen(*wire.reply("left")))
    assert set(ends(done.events)) == {"t1", "t2"}


def test_lost_with_its_provider_session_it_goes_out_behind_the_turn() -> None:
    wire = Wire()
    moved = after(*working(wire), steering(), failed(lost=True), elapsed(1000))
    begun = moved.when(bound("sesn_2", 1001))
    assert [command.riders for command in begun.decision.commands] == [()]  # type: ignore[union-attr]
    done = given_state(begun).when(seen(*Wire("other", 1002).reply()))
    assert done.decision.commands == (again(),)


def test_behind_a_silence_the_agent_has_both_messages_already() -> None:
    wire = Wire()
    nudged = after(*working(wire), steering(), seen(wire.prompt("left")), silent(900, 5))
    stopped = nudged.when(seen(wire.interrupted(), wire.idle()))
    go_on = given_state(stopped).when(elapsed(2000))
    (send,) = go_on.decision.commands
    assert isinstance(send, Send)
    assert send.nudge


def test_queued_behind_a_silence_its_message_is_known_as_its_own() -> None:
    """The agent was interrupted for its silence and takes up what was queued: that is no word about the silence."""
    wire = Wire()
    nudged = after(*working(wire), steering(), silent(900, 5))
    stopped = nudged.when(seen(wire.interrupted(), wire.idle(), wire.prompt("left")))
    assert stopped.events[-1].turn_id == "t2"
    assert stopped.state.progress is not None
    assert not stopped.state.progress.prompted


def test_a_turn_that_fails_takes_those_along_that_the_agent_has() -> None:
    wire = Wire()
    lost = after(*working(wire), steering(), seen(wire.prompt("left"))).when(failed(final=True))
    assert {id: kind for id, (kind, _) in ends(lost.events).items()} == dict.fromkeys(
        ("t1", "t2"), "turn.failed"
    )
    buried = [c.input_id for c in lost.decision.commands if isinstance(c, DeadLetter)]
    assert buried == ["turn:t1", "turn:t2"]


def test_a_turn_that_fails_leaves_the_one_that_is_still_on_its_way() -> None:
    lost = after(*working(Wire()), steering()).when(failed(final=True))
    assert list(ends(lost.events)) == ["t1"]
    assert again() in lost.decision.commands


def test_at_the_budget_it_goes_on_behind_the_turn() -> None:
    wire = Wire()
    paused = (
        opening(budget_usd=1.0),
        *working(wire),
        steering(),
        seen(wire.idle("budget_reached")),
    )
    raised = after(*paused, budget_set(2.0, "sevt_3", 9)).when(
        seen(wire.running(), wire.message("done"), wire.idle())
    )
    assert list(ends(raised.events)) == ["t1"]
    assert raised.decision.commands == (again(),)


def test_a_closed_session_ends_it_whether_the_agent_has_it_or_not() -> None:
    wire = Wire()
    closed = after(*working(wire), steering(), archiving(9)).when(
        seen(wire.interrupted(), wire.idle())
    )
    assert set(ends(closed.events)) == {"t1", "t2"}
    assert not closed.state.queue
    assert closed.decision.commands == ()


def test_a_deadline_that_comes_while_its_fate_is_unknown_interrupts_it() -> None:
    """It is not given up unsent: the agent may be at work on it."""
    wire = Wire()
    both = working(wire, deadline_seconds=30)
    late = after(*both, steering(deadline_seconds=40)).when(
        msgspec.structs.replace(seen(wire.idle()), at=at(50))
    )
    assert late.decision.commands == (again(),)
    given_state(late).when(elapsed(50)).then("turn.overdue", commands=(Interrupt(turn_id="t2"),))
