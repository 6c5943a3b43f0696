"""Tool calls that wait for somebody: asked, answered, answered twice, answered by nobody who may."""

from __future__ import annotations

from typing import Any

import pytest

from shared.session.commands import Answer, DeadLetter
from shared.session.inputs import Input, ProviderEvent
from tests.builders import Wire, answering, bound, confirming, elapsed, failed, seen, turn
from tests.unit.session.specification import Given, after, given

pytestmark = pytest.mark.unit

REFUSED = "session.answer_refused"
RUNNING: tuple[Input, ...] = (turn("t1"), bound())


def asking(wire: Wire, *calls: ProviderEvent) -> Given:
    """A session whose agent waits for these calls."""
    return after(*RUNNING, *waits(wire, *calls))


def waits(wire: Wire, *calls: ProviderEvent) -> tuple[Input, ...]:
    ids = [call.id for call in calls]
    return (seen(wire.prompt(), *calls, wire.idle("requires_action", *ids)),)


def test_a_turn_that_waits_for_people_says_for_what() -> None:
    wire = Wire()
    call = wire.tool_use("ask")
    said = (wire.prompt(), call, wire.idle("requires_action", call.id))
    waiting = after(*RUNNING).when(seen(*said))
    waiting.then(*(event.type for event in said), "turn.requires_action")
    action = {
        "tool_use_id": call.id,
        "kind": "confirmation",
        "name": "bash",
        "input": {"command": "ls"},
        "since": call.at,
    }
    waiting.saying("turn.requires_action", status="requires_action", pending_actions=[action])
    assert waiting.state.status == "requires_action"


@pytest.mark.parametrize("permission", [None, "allow", "deny"])
def test_a_call_that_asks_nobody_waits_for_nobody(permission: str | None) -> None:
    wire = Wire()
    call, other = wire.tool_use(permission), wire.tool_use("ask")
    waiting = after(
        *RUNNING, seen(wire.prompt(), call, other, wire.idle("requires_action", other.id))
    )
    assert [action.tool_use_id for action in waiting.state.pending] == [other.id]


@pytest.mark.parametrize("permission", [None, "allow"])
def test_what_the_idle_names_is_pending_whatever_the_call_said(permission: str | None) -> None:
    wire = Wire()
    call = wire.tool_use(permission)
    waiting = asking(wire, call)
    (action,) = waiting.state.pending
    assert (action.tool_use_id, action.kind, action.name) == (call.id, "confirmation", "bash")
    shown = b'{"command":"ls"}' if permission is None else b"{}"
    assert bytes(action.input) == shown
    assert waiting.state.status == "requires_action"
    input = confirming(call.id)
    waiting.when(input).then(commands=(Answer(tool_use_id=call.id, input_id=input.input_id),))


@pytest.mark.parametrize(
    ("evaluation", "asks"),
    [
        ({"type": "always_ask"}, True),
        ({"type": "always_allow"}, False),
        ({"type": "auto", "evaluated_permission": {"type": "ask", "reason_code": "x"}}, True),
        ({"type": "auto", "evaluated_permission": {"type": "allow"}}, False),
        ({"type": "auto", "evaluated_permission": {"type": "deny"}}, False),
        ({"type": "auto", "evaluated_permission": {"type": "later"}}, True),
        ({"type": "by_moon"}, False),
    ],
)
def test_a_call_may_say_by_its_evaluation_alone_that_it_asks(
    evaluation: dict[str, Any], asks: bool
) -> None:
    wire = Wire()
    call = wire.tool_use(None, evaluation=evaluation)
    assert bool(after(*RUNNING, seen(wire.prompt(), call)).state.pending) is asks


def test_a_call_of_a_type_nobody_knows_is_shown_and_confirmed() -> None:
    wire = Wire()
    call = wire.event("agent.browser_use", name="browser", input={"url": "https://a.example"})
    waiting = asking(wire, call)
    (action,) = waiting.state.pending
    assert (action.kind, action.name) == ("confirmation", "browser")
    assert bytes(action.input) == b'{"url":"https://a.example"}'
    denied = confirming(call.id, result="deny")
    waiting.when(denied).then(commands=(Answer(tool_use_id=call.id, input_id=denied.input_id),))
    goes_on = Given(waiting.state).when(seen(wire.confirmed(call.id), wire.running()))
    assert (goes_on.state.pending, goes_on.state.status) == ((), "running")


def test_of_an_unfamiliar_call_that_says_no_input_all_is_shown() -> None:
    wire = Wire()
    call = wire.event("agent.gesture", at="the door")
    (action,) = asking(wire, call).state.pending
    assert (action.name, bytes(action.input)) == ("agent.gesture", call.raw)


@pytest.mark.parametrize("kind", ["agent.custom_tool_use", "agent.tool_use", "browser.asks"])
def test_a_call_that_is_named_before_it_comes_is_asked_for_twice(kind: str) -> None:
    """Unseen first, so that it can be denied; then as what it is."""
    wire = Wire()
    call = wire.event(kind, name="weather", input={"city": "Oslo"})
    named = after(*RUNNING).when(seen(wire.prompt(), wire.idle("requires_action", call.id)))
    (unseen,) = named.state.pending
    assert (unseen.tool_use_id, unseen.kind, unseen.name) == (call.id, "confirmation", "")
    seen_then = Given(named.state).when(seen(call))
    seen_then.then(kind, "turn.requires_action")
    (action,) = seen_then.state.pending
    wanted = "custom_tool" if kind == "agent.custom_tool_use" else "confirmation"
    assert (action.kind, action.name) == (wanted, "weather")


def test_an_idle_that_names_again_what_was_answered_asks_nobody() -> None:
    wire = Wire()
    call, other = wire.tool_use("ask"), wire.custom_tool_use()
    said = (wire.confirmed(call.id), wire.answered(other.id), wire.running())
    goes_on = after(*RUNNING, *waits(wire, call, other), seen(*said))
    stale = goes_on.when(seen(wire.idle("requires_action", call.id, other.id)))
    stale.then("session.status_idle")
    assert (stale.state.pending, stale.state.status) == ((), "running")
    done = seen(wire.event("agent.tool_result", tool_use_id=call.id))
    Given(stale.state).when(done).then("agent.tool_result")
    later = after(*RUNNING, *waits(wire, call, other), seen(*said), done)
    later.when(seen(wire.idle("requires_action", call.id))).then("session.status_idle")


def test_a_permission_this_code_does_not_know_asks() -> None:
    wire = Wire()
    assert len(asking(wire, wire.tool_use("sometimes")).state.pending) == 1


def test_the_same_wait_is_announced_once() -> None:
    wire = Wire()
    call = wire.tool_use("ask")
    waiting = asking(wire, call)
    waiting.when(seen(wire.idle("requires_action", call.id))).then("session.status_idle")


def test_a_new_call_is_announced_with_the_old_one() -> None:
    wire = Wire()
    call = wire.tool_use("ask")
    waiting = asking(wire, call)
    other = wire.custom_tool_use()
    again = waiting.when(seen(other, wire.idle("requires_action", call.id, other.id)))
    assert again.events[-1].type == "turn.requires_action"
    assert [action.tool_use_id for action in again.state.pending] == [call.id, other.id]


def test_a_confirmation_is_handed_on() -> None:
    wire = Wire()
    call = wire.tool_use("ask")
    input = confirming(call.id)
    asking(wire, call).when(input).then(
        commands=(Answer(tool_use_id=call.id, input_id=input.input_id),)
    )


def test_a_result_is_handed_on() -> None:
    wire = Wire()
    call = wire.custom_tool_use()
    input = answering(call.id)
    asking(wire, call).when(input).then(
        commands=(Answer(tool_use_id=call.id, input_id=input.input_id),)
    )


def letter(input_id: str, tool_use_id: str, kind: str) -> DeadLetter:
    detail = f"no tool call {tool_use_id} waits for a {kind} in this session"
    return DeadLetter(input_id=input_id, reason="unknown_action", detail=detail)


def test_an_answer_to_nothing_is_a_dead_letter() -> None:
    wire = Wire()
    waiting = asking(wire, wire.tool_use("ask"))
    input = confirming("sevt_99")
    refused = waiting.when(input)
    refused.then(
        "session.answer_refused", commands=(letter(input.input_id, "sevt_99", "confirmation"),)
    )
    refused.saying(
        "session.answer_refused",
        input_id=input.input_id,
        tool_use_id="sevt_99",
        input_type="tool.confirmed",
        reason="unknown_action",
    )
    assert refused.state.pending == waiting.state.pending


def test_an_answer_to_a_call_that_died_with_its_provider_session_is_told_in_the_log() -> None:
    wire = Wire()
    call = wire.tool_use("ask")
    waiting = after(*RUNNING, *waits(wire, call), seen(wire.terminated()))
    input = confirming(call.id, 50)
    told = waiting.when(input).then(
        "session.answer_refused", commands=(letter(input.input_id, call.id, "confirmation"),)
    )
    told.saying(REFUSED, tool_use_id=call.id)


def test_an_answer_for_a_session_that_never_was_is_a_dead_letter_alone() -> None:
    input = confirming("sevt_99")
    given().when(input).then(commands=(letter(input.input_id, "sevt_99", "confirmation"),))


def test_an_answer_of_the_wrong_kind_is_a_dead_letter() -> None:
    wire = Wire()
    call = wire.tool_use("ask")
    input = answering(call.id)
    asking(wire, call).when(input).then(
        "session.answer_refused", commands=(letter(input.input_id, call.id, "custom_tool"),)
    )


def test_an_answer_that_was_given_already_is_a_dead_letter() -> None:
    wire = Wire()
    call = wire.tool_use("ask")
    waiting = after(*RUNNING, *waits(wire, call), seen(wire.confirmed(call.id), wire.running()))
    assert waiting.state.status == "running"
    input = confirming(call.id, 50)
    waiting.when(input).then(
        "session.answer_refused", commands=(letter(input.input_id, call.id, "confirmation"),)
    )


def test_one_of_two_answers_leaves_the_other_waiting() -> None:
    wire = Wire()
    one, two = wire.tool_use("ask"), wire.custom_tool_use()
    inputs = waits(wire, one, two)
    partly = after(*RUNNING, *inputs).when(seen(wire.confirmed(one.id), wire.running()))
    partly.then("user.tool_confirmation", "session.status_running")
    assert partly.state.status == "requires_action"
    assert [action.tool_use_id for action in partly.state.pending] == [two.id]


def test_an_answered_turn_goes_on_and_completes() -> None:
    wire = Wire()
    call = wire.custom_tool_use()
    inputs = waits(wire, call)
    said = (wire.answered(call.id), wire.running(), wire.message("sunny"), wire.idle())
    ended = after(*RUNNING, *inputs).when(seen(*said))
    assert [event.type for event in ended.events[-2:]] == ["turn.completed", "session.idled"]
    ended.saying("turn.completed", reply="sunny", tool_calls=1)
    assert ended.state.pending == ()


def test_an_interrupt_while_waiting_closes_the_calls() -> None:
    wire = Wire()
    call = wire.tool_use("ask")
    inputs = waits(wire, call)
    said = (
        wire.event("agent.tool_result", tool_use_id=call.id, is_error=True),
        wire.interrupted(),
        wire.idle(),
    )
    ended = after(*RUNNING, *inputs).when(seen(*said))
    assert ended.events[-2].type == "turn.interrupted"
    assert ended.state.pending == ()


def test_what_waited_is_forgotten_with_the_attempt() -> None:
    wire = Wire()
    inputs = (*RUNNING, *waits(wire, wire.tool_use("ask")), failed(second=30, lost=True))
    state = after(*inputs).state
    assert (state.pending, state.turn and state.turn.status) == ((), "running")
    assert after(*inputs, elapsed(100), bound("sesn_2", 101)).state.status != "requires_action"
