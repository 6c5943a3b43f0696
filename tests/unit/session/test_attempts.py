"""What becomes of an attempt that fails: tried again, given up, moved to a new provider session."""

from __future__ import annotations

import pytest
from msgspec.structs import replace

from shared.session.commands import DeadLetter, Interrupt, Open, Send
from shared.session.inputs import Input, NothingRan
from shared.session.policy import Policy
from tests.builders import (
    Wire,
    archiving,
    at,
    bound,
    elapsed,
    failed,
    interrupting,
    opening,
    seen,
    turn,
)
from tests.unit.session.specification import Given, after

pytestmark = pytest.mark.unit

RUNNING: tuple[Input, ...] = (turn("t1"), bound())


def again(attempt: int) -> Send:
    return Send(turn_id="t1", input_id="turn:t1", attempt=attempt, look=True)


def put_aside(attempts: int, reason: str = "overloaded_error", turn_id: str = "t1") -> DeadLetter:
    return DeadLetter(
        input_id=f"turn:{turn_id}",
        reason="turn_failed",
        detail=f"{reason}: in words",
        attempts=attempts,
    )


def test_an_attempt_says_which_version_of_the_agent_it_is_put_to() -> None:
    known = replace(bound(), agent_version=7)
    began = after(turn()).when(known).saying("turn.started", agent="agent_1", agent_version=7)
    assert began.state.bound_version == 7
    again = after(turn(), known, failed()).when(elapsed(900))
    again.saying("turn.started", agent_version=7)
    (unsaid,) = after(turn()).when(bound()).events
    assert b"agent_version" not in bytes(unsaid.data)


def test_a_failed_attempt_waits_for_the_next() -> None:
    waits = after(*RUNNING).when(failed(second=10, chance=0.5))
    waits.then("turn.retrying").saying(
        "turn.retrying", reason="overloaded_error", detail="in words", retry_at=at(10.5)
    )
    assert waits.state.due_at == at(10.5)
    assert waits.state.failures == 1


def test_the_provider_may_wish_for_a_longer_wait() -> None:
    waits = after(*RUNNING).when(failed(second=10, retry_after=30.0))
    assert waits.state.due_at == at(40)


def test_the_providers_wish_is_not_followed_beyond_our_own_bound() -> None:
    waits = after(*RUNNING).when(failed(second=10, retry_after=7200.0))
    assert waits.state.due_at == at(10 + 120)


def test_waits_double_up_to_their_bound() -> None:
    policy = Policy(max_attempts=20, give_up_after=100_000)
    due = [
        policy.next_retry(failures=n, since=at(), at=at(), chance=0.5) for n in (1, 2, 3, 4, 9, 19)
    ]
    assert due == [at(0.5), at(1), at(2), at(4), at(60), at(60)]


def test_the_next_attempt_begins_when_it_is_due_and_not_before() -> None:
    waiting = after(*RUNNING, failed(second=10, chance=0.5))
    waiting.when(elapsed(10.4)).then()
    waiting.when(elapsed(10.5)).then("turn.started", commands=(again(2),)).saying(
        "turn.started", attempts=2, started_at=at(0)
    )


def test_a_deadline_that_is_none_changes_nothing() -> None:
    after(*RUNNING).when(elapsed(1000)).then()


def test_no_provider_session_yet_is_tried_again_too() -> None:
    failing = after(turn("t1"), failed(second=1))
    failing.when(elapsed(2)).then(commands=(Open(turn_id="t1"),))
    assert failing.state.turn is not None
    assert failing.state.turn.status == "accepted"


def test_a_final_failure_ends_the_turn_at_once() -> None:
    ended = after(*RUNNING, turn("t2")).when(
        failed(second=4, reason="invalid_request_error", final=True)
    )
    ended.then(
        "turn.failed",
        "turn.started",
        commands=(
            put_aside(1, "invalid_request_error"),
            Send(turn_id="t2", input_id="turn:t2", attempt=1, look=False),
        ),
    ).saying("turn.failed", status="failed", ended_at=at(4))
    assert b'"invalid_request_error"' in bytes(ended.events[0].data)


def test_a_failure_of_another_turn_changes_nothing() -> None:
    after(*RUNNING).when(failed("t0")).then()
    after(*RUNNING, seen(*Wire().reply())).when(failed("t1", lost=True)).then()


def test_a_lost_provider_session_is_replaced() -> None:
    lost = after(*RUNNING).when(failed(reason="not_found_error", second=5, lost=True))
    lost.then("session.rotated", "turn.retrying").saying(
        "session.rotated", provider_session_id="sesn_1", reason="not_found_error"
    )
    assert lost.state.provider_session_id is None
    inputs = (*RUNNING, failed(second=5, lost=True))
    after(*inputs).when(elapsed(6)).then(commands=(Open(turn_id="t1"),))
    after(*inputs, elapsed(6)).when(bound("sesn_2", 7)).then(
        "turn.started", commands=(again(2),)
    ).saying("turn.started", provider_session_id="sesn_2", attempts=2)


def test_a_session_lost_while_its_turn_waits_is_left_without_another_failure() -> None:
    """Its own last words may have ended the attempt that hears of the loss, too."""
    waits = after(*RUNNING, failed(second=4)).when(
        failed(second=4, reason="session_lost", lost=True)
    )
    waits.then("session.rotated")
    assert waits.state.failures == 1
    after(*RUNNING, failed(second=4), failed(second=4, lost=True)).when(elapsed(9)).then(
        commands=(Open(turn_id="t1"),)
    )


def test_a_session_lost_before_there_was_one_is_only_tried_again() -> None:
    after(turn("t1")).when(failed(lost=True)).then("turn.retrying")


def test_a_turn_is_given_up_after_eight_attempts() -> None:
    inputs: list[Input] = [*RUNNING]
    for n in range(7):
        inputs += [failed(second=n), elapsed(n)]
    given_up = after(*inputs).when(failed(second=8))
    given_up.then("turn.failed", "session.idled", commands=(put_aside(8),)).saying(
        "turn.failed", attempts=8, status="failed"
    )


def test_a_turn_is_given_up_after_fifteen_minutes() -> None:
    waiting = after(*RUNNING, failed(second=0), elapsed(0))
    waiting.when(failed(second=899, chance=0.1)).then("turn.retrying")
    waiting.when(failed(second=901)).then("turn.failed", "session.idled", commands=(put_aside(2),))


def test_a_wish_that_ends_after_our_patience_is_not_waited_for() -> None:
    waiting = after(*RUNNING, failed(second=0), elapsed(0))
    waiting.when(failed(second=850, retry_after=60.0)).then(
        "turn.failed", "session.idled", commands=(put_aside(2),)
    )


def test_a_turn_that_is_given_up_is_put_aside_with_those_that_ride_along() -> None:
    together = [turn(name, on_busy="coalesce") for name in ("t1", "t2")]
    sent = after(*together, elapsed(1), bound(second=1))
    given_up = sent.when(failed(second=2, final=True))
    letters = tuple(put_aside(1, turn_id=name) for name in ("t1", "t2"))
    given_up.then("turn.failed", "turn.failed", "session.idled", commands=letters)


def test_a_closed_session_puts_nothing_aside() -> None:
    closing = after(*RUNNING, archiving())
    assert not [
        c for c in closing.when(failed(final=True)).decision.commands if isinstance(c, DeadLetter)
    ]


def test_each_turn_has_attempts_of_its_own() -> None:
    wire = Wire()
    inputs = (*RUNNING, failed(second=0), elapsed(0), seen(*wire.reply()), turn("t2", second=60))
    assert after(*inputs).state.failures == 0


def test_an_interrupted_wait_forgets_its_deadline() -> None:
    state = after(*RUNNING, failed(chance=0.5), interrupting()).state
    assert state.due_at is None


def test_an_interrupt_that_found_nothing_to_stop_ends_the_wait() -> None:
    """It was asked for while an attempt ran, and that came to nothing."""
    waiting = after(*RUNNING, interrupting(), failed(chance=0.5))
    waiting.when(NothingRan(turn_id="t1", at=at(1))).then("turn.interrupted", "session.idled")
    waiting.when(NothingRan(turn_id="another", at=at(1))).then()


def test_an_interrupt_that_found_nothing_meets_the_next_attempt() -> None:
    again = after(*RUNNING, interrupting(), failed(chance=0.5), elapsed(60))
    again.when(NothingRan(turn_id="t1", at=at(60))).then(commands=(Interrupt(turn_id="t1"),))


def test_a_message_that_got_in_after_all_ends_the_wait() -> None:
    """Its send seemed to fail; sending it again would make a second turn of it."""
    waiting = after(*RUNNING, failed(second=10, chance=0.5))
    wire = Wire()
    late = waiting.when(seen(wire.prompt(), wire.running()))
    assert late.state.due_at is None
    after(*RUNNING, failed(second=10), seen(wire.prompt())).when(elapsed(100)).then()


def test_a_send_that_fails_after_its_message_was_taken_up_did_not_fail() -> None:
    prompted = after(*RUNNING, seen(Wire().prompt()))
    prompted.when(failed(reason="provider_unreachable")).then()
    prompted.when(failed(lost=True)).then("session.rotated", "turn.retrying")
    prompted.when(failed(final=True)).then("turn.failed", "session.idled", commands=(put_aside(1),))


def test_what_a_given_up_provider_session_still_says_is_only_recorded() -> None:
    wire = Wire()
    rotated = after(*RUNNING, failed(lost=True))
    said = (wire.prompt(), wire.message("late"), wire.idle(), wire.terminated())
    rotated.when(seen(*said)).then(*(event.type for event in said))


# ---- the budget -----------------------------------------------------------------------------------------------


def spending(budget_usd: float, *cents: int) -> Given:
    """A session with a budget whose provider sessions cost so much and were lost; its turn waits for another."""
    session = after(opening(budget_usd=budget_usd), turn("t1"))
    for n, cost in enumerate(cents):
        wire, second = Wire(f"s{n}", 100.0 * n), 100.0 * n
        begun = Given(session.when(bound(f"sesn_{n}", second)).state)
        said = seen(wire.prompt(), wire.running(), wire.cost(cost), wire.terminated())
        lost = Given(begun.when(said).state)
        session = Given(lost.when(elapsed(second + 99)).state)
    return session


@pytest.mark.parametrize(
    ("budget_usd", "cents", "left"),
    [
        (1.0, (), 100),
        (0.29, (), 29),
        (0.019, (), 1),
        (1.0, (30,), 69),
        (1.0, (30, 25), 43),
        (1.0, (99,), 0),
    ],
)
def test_another_provider_session_may_spend_what_is_left_and_no_cent_more(
    budget_usd: float, cents: tuple[int, ...], left: int
) -> None:
    """What was spent is known to the nearest cent only."""
    assert spending(budget_usd, *cents).state.budget_left == left


def test_a_session_without_a_budget_may_spend_as_much_as_it_likes() -> None:
    assert after(turn("t1")).state.budget_left is None
