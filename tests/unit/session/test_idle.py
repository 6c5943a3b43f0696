"""What ends a turn, and what only looks like it."""

from __future__ import annotations

import pytest

from shared.session.commands import Open, Send
from shared.session.inputs import Input
from tests.builders import Wire, at, bound, elapsed, seen, turn
from tests.unit.session.specification import after

pytestmark = pytest.mark.unit

RUNNING: tuple[Input, ...] = (turn("t1"), bound())


def test_end_turn_completes() -> None:
    wire = Wire()
    said = wire.reply(answer="well")
    ended = after(*RUNNING).when(seen(*said))
    types = [event.type for event in said]
    types.insert(types.index("session.usage"), "session.charged")
    ended.then(*types, "turn.completed", "session.idled")
    ended.saying(
        "turn.completed", status="completed", stop_reason="end_turn", reply="well", error=None
    )
    ended.saying("session.idled", last_turn_id="t1", cost_usd=0.03)
    assert (ended.state.status, ended.state.open_turn) == ("idle", None)


def test_a_reason_of_a_newer_api_ends_the_turn_too() -> None:
    wire = Wire()
    ended = after(*RUNNING).when(seen(wire.prompt(), wire.idle("tired")))
    ended.saying("turn.completed", stop_reason="tired")


def test_a_refusal_of_the_model_refuses_the_turn() -> None:
    wire = Wire()
    ended = after(*RUNNING).when(seen(wire.prompt(), wire.idle("refusal")))
    ended.then("user.message", "session.status_idle", "turn.refused", "session.idled")
    ended.saying("turn.refused", status="refused", stop_reason="refusal")
    assert b'"refusal"' in bytes(ended.events[2].data)


def test_exhausted_retries_are_tried_again_under_our_policy() -> None:
    wire = Wire()
    said = (wire.prompt(), wire.error("retrying"), wire.idle("retries_exhausted"))
    again = after(*RUNNING).when(seen(*said, chance=0.5))
    again.then(*(event.type for event in said), "turn.retrying").saying(
        "turn.retrying", reason="model_error", detail="so it goes"
    )
    send = Send(turn_id="t1", input_id="turn:t1", attempt=2, look=True)
    after(*RUNNING, seen(*said)).when(elapsed(100)).then("turn.started", commands=(send,))


def test_an_exhausted_error_makes_any_idle_a_failure_even_unprompted() -> None:
    wire = Wire()
    said = (wire.error("exhausted", "billing_error"), wire.idle("end_turn"))
    again = after(*RUNNING).when(seen(*said))
    again.then("session.error", "session.status_idle", "turn.retrying").saying(
        "turn.retrying", reason="billing_error"
    )


def test_a_retrying_error_is_only_recorded() -> None:
    wire = Wire()
    said = (wire.prompt(), wire.error("retrying"), *wire.reply()[1:])
    assert after(*RUNNING).when(seen(*said)).events[-2].type == "turn.completed"


@pytest.mark.parametrize("reason", ["end_turn", "refusal", "retries_exhausted", "budget_reached"])
def test_an_idle_before_our_message_was_taken_up_ends_nothing(reason: str) -> None:
    wire = Wire()
    after(*RUNNING).when(seen(wire.idle(reason))).then("session.status_idle")
    unprocessed = seen(wire.prompt(processed=False), wire.idle(reason))
    after(*RUNNING).when(unprocessed).then("user.message", "session.status_idle")


def test_an_idle_between_turns_is_only_recorded() -> None:
    wire = Wire()
    idle = after(*RUNNING, seen(*wire.reply()))
    idle.when(seen(wire.idle())).then("session.status_idle")


def test_a_terminated_session_is_replaced_and_the_turn_goes_on() -> None:
    wire = Wire()
    said = seen(wire.prompt(), wire.terminated(), chance=0.5)
    lost = after(*RUNNING).when(said)
    lost.then("user.message", "session.status_terminated", "session.rotated", "turn.retrying")
    lost.saying("session.rotated", reason="session_terminated", provider_session_id="sesn_1")
    after(*RUNNING, said).when(elapsed(100)).then(commands=(Open(turn_id="t1"),))


def test_a_deleted_session_is_replaced_and_the_turn_goes_on() -> None:
    lost = after(*RUNNING).when(seen(Wire().event("session.deleted")))
    lost.then("session.deleted", "session.rotated", "turn.retrying")


def test_a_terminated_session_between_turns_is_noticed_by_the_next_send() -> None:
    wire = Wire()
    gone = after(*RUNNING, seen(*wire.reply())).when(seen(wire.terminated()))
    gone.then("session.status_terminated")


def test_only_the_last_primary_message_is_the_reply() -> None:
    wire = Wire()
    said = (
        wire.prompt(),
        wire.message("first"),
        wire.message("second", "half"),
        wire.message("of a child", thread="sthr_1"),
        wire.idle(),
    )
    after(*RUNNING).when(seen(*said)).saying("turn.completed", reply="second\nhalf")


def test_a_turn_without_a_message_has_no_reply() -> None:
    wire = Wire()
    ended = after(*RUNNING).when(seen(wire.prompt(), wire.idle()))
    ended.saying("turn.completed", reply=None)


def test_the_first_token_is_the_first_sign_of_an_answer() -> None:
    wire = Wire(second=10)
    said = (wire.prompt(), wire.event("agent.thinking"), wire.message("a"), wire.idle())
    after(*RUNNING).when(seen(*said)).saying("turn.completed", first_token_at=at(12))


def test_sums_are_of_all_model_requests_threads_included() -> None:
    wire = Wire()
    child = wire.event("span.model_request_end", thread="sthr_1", model_usage={"input_tokens": 1})
    said = (
        wire.prompt(),
        wire.spent(10, 5, cache_read_input_tokens=3),
        wire.spent(20, 7, cache_creation_input_tokens=2),
        child,
        wire.idle(),
    )
    usage = {
        "input_tokens": 31,
        "output_tokens": 12,
        "cache_read_tokens": 3,
        "cache_write_tokens": 2,
    }
    ended = after(*RUNNING).when(seen(*said))
    ended.saying("turn.completed", usage=usage).saying("session.idled", usage=usage)
    models = [event.model for event in ended.events if event.type == "span.model_request_end"]
    assert models == ["model-1", "model-1", None], "a child's is told by who reads its thread"


def test_cost_is_a_turns_own_share_of_the_running_total() -> None:
    wire = Wire()
    one = (wire.prompt(), wire.cost(3), wire.idle(), wire.cost(4))
    two = (wire.prompt(), wire.cost(10), wire.idle())
    first = after(*RUNNING).when(seen(*one))
    first.saying("turn.completed", cost_usd=0.03)
    assert first.state.cost_usd == 0.04
    second = after(*RUNNING, seen(*one), turn("t2", second=60)).when(seen(*two))
    second.saying("turn.completed", cost_usd=0.06).saying("session.idled", cost_usd=0.1)


def test_cost_goes_on_counting_in_a_new_provider_session() -> None:
    wire, other = Wire(), Wire("other")
    one = seen(wire.prompt(), wire.cost(5), wire.terminated())
    two = seen(other.prompt(), other.cost(2), other.idle())
    ended = after(*RUNNING, one, elapsed(100), bound("sesn_2", 101)).when(two)
    ended.saying("turn.completed", cost_usd=0.07)


def test_tool_calls_are_counted_whoever_makes_them() -> None:
    wire = Wire()
    uses = (wire.tool_use(), wire.tool_use(kind="agent.mcp_tool_use"), wire.custom_tool_use())
    child = wire.tool_use(thread="sthr_1")
    ended = after(*RUNNING).when(seen(wire.prompt(), *uses, child, wire.idle()))
    ended.saying("turn.completed", tool_calls=4)
