"""People who do not answer, a provider that says nothing, and messages of somebody else."""

from __future__ import annotations

import msgspec
import pytest

from shared.moment import parse
from shared.session.commands import Deny, Interrupt, Open, Send
from shared.session.inputs import Input, ProviderEvent
from shared.session.policy import Policy
from shared.session.waiting import stalled_at
from tests.builders import (
    Wire,
    answering,
    at,
    bound,
    elapsed,
    failed,
    interrupting,
    seen,
    silent,
    turn,
)
from tests.unit.session.specification import Given, after

pytestmark = pytest.mark.unit
RUNNING: tuple[Input, ...] = (turn("t1"), bound())
DAY = 24 * 3600.0


def asking() -> tuple[Given, str]:
    wire = Wire()
    call = wire.custom_tool_use()
    return after(*RUNNING, seen(wire.prompt(), call, wire.idle("requires_action"))), call.id


def test_what_waits_for_people_waits_a_day() -> None:
    waiting, call = asking()
    assert waiting.state.due_at == at(5 + DAY - 1)
    waiting.when(elapsed(DAY - 10)).then()
    denied = waiting.when(elapsed(DAY + 10))
    denied.then("turn.unanswered", commands=(Deny(tool_use_id=call),))
    assert denied.state.due_at is None


def test_what_was_answered_is_not_denied() -> None:
    waiting, call = asking()
    wire = Wire("more", 10)
    state = waiting.when(answering(call, 9)).state
    answered = Given(state).when(seen(wire.answered(call), wire.running())).state
    assert answered.due_at is None
    Given(answered).when(elapsed(DAY + 10)).then()


def test_a_policy_may_wait_for_ever() -> None:
    wire = Wire()
    asks = seen(wire.prompt(), wire.custom_tool_use(), wire.idle("requires_action"))
    assert after(*RUNNING).when(asks, Policy(answer_within=None)).state.due_at is None


def test_a_silent_agent_is_interrupted_and_told_to_go_on() -> None:
    stalled = after(*RUNNING, seen(Wire().prompt())).when(silent(900))
    stalled.then("turn.stalled", commands=(Interrupt(turn_id="t1"),))
    stalled.saying("turn.stalled", action="interrupt", silent_since=at(0))
    wire = Wire("more", 900)
    idle = Given(stalled.state).when(seen(wire.interrupted(), wire.idle()))
    idle.then("user.interrupt", "session.status_idle", "turn.retrying")
    again = Given(idle.state).when(elapsed(2000))
    (send,) = again.decision.commands
    assert isinstance(send, Send)
    assert (send.nudge, send.attempt) == (True, 2)
    told = seen(wire.prompt("words of ours"), wire.running(), wire.message("fine"), wire.idle())
    Given(again.state).when(told).saying("turn.completed", reply="fine", attempts=2)


def test_a_second_silence_moves_the_turn_to_another_provider_session() -> None:
    stalled = after(*RUNNING, seen(Wire().prompt()), silent(900)).when(silent(1800))
    stalled.then("turn.stalled", "session.rotated", "turn.retrying")
    stalled.saying("turn.stalled", action="rotate")
    again = Given(stalled.state).when(elapsed(3000))
    again.then(commands=(Open(turn_id="t1"),))
    (send,) = Given(again.state).when(bound("sesn_2", 3000)).decision.commands
    assert isinstance(send, Send)
    assert not send.nudge
    assert again.state.rotated_from == "sesn_1"


def test_an_interrupt_by_a_person_ends_a_turn_that_was_interrupted_for_its_silence() -> None:
    stalled = after(*RUNNING, seen(Wire().prompt()), silent(900))
    stalled.when(interrupting(901)).then("turn.interrupted", "session.idled")


def test_an_interrupt_by_a_person_stops_an_agent_that_goes_on_after_its_silence() -> None:
    """What comes next must not be told to an agent that still works."""
    wire = Wire("more", 900)
    stalled = (*RUNNING, seen(Wire().prompt()), silent(900), seen(wire.interrupted(), wire.idle()))
    goes_on = (*stalled, elapsed(2000), seen(wire.prompt("words of ours"), wire.running()))
    asked = after(*goes_on, turn("t2", second=2001)).when(interrupting(2002))
    asked.then(commands=(Interrupt(turn_id="t1"),))
    stopped = Given(asked.state).when(seen(wire.interrupted(), wire.idle()))
    assert [event.type for event in stopped.events[-2:]] == ["turn.interrupted", "turn.started"]


# ---- calls that are open --------------------------------------------------------------------------------------

HOUR = 3600.0
POLICY = Policy(silent_for=HOUR / 4, call_for=2 * HOUR)


def stalls(
    *said: ProviderEvent, heard: float | None = None, policy: Policy = POLICY
) -> float | None:
    """Seconds from the last of what was said, or from when it was heard, until the agent counts as stalled."""
    session = after(*RUNNING, seen(*said))
    heard_at = said[-1].at if heard is None else at(heard)
    stalled = stalled_at(session.state, policy, heard_at)
    return None if stalled is None else (parse(stalled) - parse(heard_at)).total_seconds()


def test_an_agent_without_an_open_call_may_be_silent_for_a_quarter_of_an_hour() -> None:
    wire = Wire()
    assert stalls(wire.prompt(), wire.running()) == HOUR / 4
    call = wire.tool_use()
    done = wire.event("agent.tool_result", tool_use_id=call.id)
    assert stalls(wire.prompt(), call, done) == HOUR / 4


@pytest.mark.parametrize(
    ("kind", "thread"),
    [
        ("agent.tool_use", None),
        ("agent.mcp_tool_use", None),
        ("agent.tool_use", "sthr_1"),
        ("agent.browser_use", None),
    ],
)
def test_an_open_call_has_a_time_of_its_own(kind: str, thread: str | None) -> None:
    wire = Wire()
    call = wire.tool_use(kind=kind, thread=thread)
    assert stalls(wire.prompt(), call) == 2 * HOUR
    later = wire.event("span.model_request_end", thread=thread)
    assert stalls(wire.prompt(), call, later) == 2 * HOUR - 2, "reckoned from the call"


def test_of_two_open_calls_the_later_one_counts() -> None:
    wire = Wire()
    assert stalls(wire.prompt(), wire.tool_use(), wire.tool_use()) == 2 * HOUR


def test_a_call_that_had_its_time_leaves_others_theirs_to_be_silent() -> None:
    wire = Wire()
    late = stalls(wire.prompt(), wire.tool_use(), wire.message("…"), heard=3 * HOUR)
    assert late == HOUR / 4


def test_a_call_may_have_less_time_than_an_agent_may_be_silent() -> None:
    wire = Wire()
    short = Policy(silent_for=HOUR, call_for=60.0)
    assert stalls(wire.prompt(), wire.tool_use(), policy=short) == 60.0


def test_a_provider_whose_clock_is_ahead_gives_a_call_no_more_time() -> None:
    wire = Wire(second=10 * HOUR)
    assert stalls(wire.prompt(), wire.tool_use(), heard=5.0) == 2 * HOUR


def test_a_thread_that_asks_its_model_has_no_open_calls() -> None:
    """Its results may have been missed, what it does now is no call."""
    wire = Wire()
    call, other = wire.tool_use(), wire.tool_use(thread="sthr_1")
    start = wire.event("span.model_request_start")
    assert stalls(wire.prompt(), call, start) == HOUR / 4
    assert stalls(wire.prompt(), call, other, start) == 2 * HOUR - 1


def test_a_call_runs_from_its_confirmation_on() -> None:
    wire = Wire()
    call = wire.tool_use("ask")
    asks = seen(wire.prompt(), call, wire.idle("requires_action", call.id))
    allowed = Wire("late", second=20 * HOUR)
    session = after(*RUNNING, asks).when(seen(allowed.confirmed(call.id), allowed.running()))
    assert stalled_at(session.state, POLICY, at(20 * HOUR + 3)) == at(22 * HOUR + 1)


def test_a_session_that_waits_for_people_does_not_stall() -> None:
    wire = Wire()
    call = wire.tool_use("ask")
    assert stalls(wire.prompt(), call, wire.idle("requires_action", call.id)) is None


def test_calls_are_forgotten_with_the_attempt() -> None:
    wire = Wire()
    for end in (wire.idle(), wire.error("exhausted"), wire.terminated()):
        said = seen(wire.prompt(), wire.tool_use(), end, wire.idle())
        assert after(*RUNNING, said).state.calls == ()


@pytest.mark.parametrize("inputs", [(), (turn("t1"),), (*RUNNING, seen(*Wire().reply()))])
def test_nothing_stalls_where_nothing_runs(inputs: tuple[Input, ...]) -> None:
    after(*inputs).when(silent(900)).then()


def test_a_message_of_somebody_else_is_not_taken_for_the_turns_own() -> None:
    """The one that a process in the grave had on its way, for a turn that has ended since."""
    wire = Wire()
    foreign = seen(*wire.reply("something else", "not for you"))
    heard = after(*RUNNING).when(foreign)
    assert {event.turn_id for event in heard.events} == {None}
    ended = Given(heard.state).when(seen(*wire.reply("hello", "for you")))
    ended.saying("turn.completed", reply="for you", cost_usd=0.0)
    assert {event.turn_id for event in ended.events if event.type == "agent.message"} == {"t1"}


@pytest.mark.parametrize("theirs", [" hel lo\n", [{"type": "image", "source": {}}]])
def test_what_cannot_be_told_apart_is_the_turns_own(theirs: object) -> None:
    content = theirs if isinstance(theirs, list) else [{"type": "text", "text": theirs}]
    wire = Wire()
    taken = after(*RUNNING).when(seen(wire.event("user.message", content=content)))
    assert taken.state.progress is not None
    assert taken.state.progress.prompted


def test_a_lost_session_leaves_where_it_was_to_the_next_one() -> None:
    wire = Wire()
    lost = after(*RUNNING, seen(wire.prompt(), wire.terminated()))
    assert lost.state.rotated_from == "sesn_1"
    unheard = Given(lost.when(elapsed(100)).state).when(bound("sesn_2", 100))
    again = Given(unheard.state).when(seen(Wire("two", 100).terminated()))
    assert again.state.rotated_from == "sesn_1", "the second one never heard a word of it"
    assert msgspec.json.decode(again.events[1].data)["provider_session_id"] == "sesn_2"


def test_what_was_said_before_is_told_even_if_the_turn_that_moved_was_never_sent() -> None:
    """Its message was refused and a person ended it: the provider session of its own has heard nothing."""
    wire = Wire()
    lost = after(*RUNNING, seen(wire.prompt(), wire.terminated()))
    moved = Given(lost.when(elapsed(100)).state).when(bound("sesn_2", 100))
    refused = Given(moved.state).when(failed("t1", "rate_limit_error", 101))
    ended = Given(refused.state).when(interrupting(102))
    ended.then("turn.interrupted", "session.idled")
    assert ended.state.rotated_from == "sesn_1"
    asked = Given(ended.state).when(turn("t2", second=103))
    assert asked.state.rotated_from == "sesn_1"
    heard = Given(asked.state).when(seen(*Wire("two", 104).reply("hello", "fine")))
    assert (heard.state.turn, heard.state.rotated_from) == (None, None)
