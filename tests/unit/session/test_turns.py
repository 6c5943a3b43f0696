"""How a turn is asked for, taken up, put in line or refused."""

from __future__ import annotations

import msgspec
import pytest
from msgspec.structs import replace

from shared.session.commands import Interrupt, Open, Send
from shared.session.policy import MAX_QUEUED_TURNS
from tests.builders import (
    TRACEPARENT,
    Wire,
    at,
    bound,
    elapsed,
    failed,
    interrupting,
    opening,
    seen,
    turn,
)
from tests.unit.session.specification import Given, after, given, history

pytestmark = pytest.mark.unit

OPEN = Open(turn_id="t1")
SEND = Send(turn_id="t1", input_id="turn:t1", attempt=1, look=False)
RUNNING = (turn("t1"), bound())


def test_a_session_is_opened_by_asking_for_it() -> None:
    asked = given().when(
        opening(title="Trip", budget_usd=2.5, metadata={"a": "b"}, agent="agent_9")
    )
    asked.then("session.opened").saying(
        "session.opened", user_id="u1", title="Trip", budget_usd=2.5, agent="agent_9"
    )
    assert asked.state.status == "idle"
    assert (asked.state.opened_at, asked.state.metadata) == (at(), {"a": "b"})


def test_asking_for_a_session_again_changes_nothing() -> None:
    after(opening()).when(opening(second=5, title="another")).then()
    after(*RUNNING).when(opening(second=5)).then()


def test_a_turn_opens_an_unknown_session() -> None:
    asked = given().when(turn("t1", agent="agent_9", mode="background"))
    asked.then("session.opened", "turn.accepted", commands=(OPEN,))
    asked.saying("session.opened", user_id="u1", agent="agent_9", mode="background")
    assert asked.state.open_turn == "t1"
    assert asked.state.status == "running"


def test_an_accepted_turn_says_what_was_asked() -> None:
    content = [{"type": "text", "text": "¿qué? 🎈"}]
    asked = after(opening()).when(turn("t1", content, second=3, traceparent=TRACEPARENT))
    asked.then("turn.accepted", commands=(OPEN,)).saying(
        "turn.accepted",
        turn_id="t1",
        status="accepted",
        content=content,
        submitted_at=at(3),
        input_id="turn:t1",
        on_busy="enqueue",
    )
    assert asked.events[0].trace_id == TRACEPARENT.split("-")[1]


def test_publishers_times_are_brought_into_our_form() -> None:
    asked = turn("t1")
    request = type(asked.request)(
        **{name: getattr(asked.request, name) for name in asked.request.__struct_fields__}
        | {"at": "2026-11-21T12:00:00+02:00"}
    )
    decided = given().when(type(asked)(input_id="turn:t1", request=request))
    assert {event.at for event in decided.events} == {at()}


def test_bound_starts_the_turn() -> None:
    started = after(turn("t1")).when(bound(second=2))
    started.then("turn.started", commands=(SEND,)).saying(
        "turn.started",
        attempts=1,
        started_at=at(2),
        provider_session_id="sesn_1",
        agent="agent_1",
        model="model-1",
    )
    assert started.state.provider_session_id == "sesn_1"


def test_bound_twice_starts_once() -> None:
    after(*RUNNING).when(bound("sesn_2")).then()


def test_bound_without_an_open_turn_changes_nothing() -> None:
    after(opening()).when(bound()).then()


def test_the_next_turn_uses_the_same_provider_session() -> None:
    wire = Wire()
    send = Send(turn_id="t2", input_id="turn:t2", attempt=1, look=False)
    after(*RUNNING, seen(*wire.reply())).when(turn("t2", second=60)).then(
        "turn.accepted", "turn.started", commands=(send,)
    )


def test_a_turn_that_comes_meanwhile_waits_in_line() -> None:
    asked = after(*RUNNING).when(turn("t2"))
    asked.then("turn.accepted")
    assert [queued.turn.turn_id for queued in asked.state.queue] == ["t2"]
    assert asked.state.open_turn == "t1"


@pytest.mark.parametrize("on_busy", ["enqueue", "coalesce"])
def test_what_waits_is_taken_up_in_order_when_the_turn_ends(on_busy: str) -> None:
    wire = Wire()
    waiting = (turn("t2", on_busy=on_busy, traceparent=TRACEPARENT), turn("t3"))
    ended = after(*RUNNING, *waiting).when(seen(*wire.reply()))
    assert [event.type for event in ended.events[-2:]] == ["turn.completed", "turn.started"]
    assert ended.state.open_turn == "t2"
    assert [queued.turn.turn_id for queued in ended.state.queue] == ["t3"]
    assert ended.events[-1].trace_id == TRACEPARENT.split("-")[1]


def test_a_turn_that_does_not_want_to_wait_is_refused() -> None:
    refused = after(*RUNNING).when(turn("t2", second=4, on_busy="reject"))
    refused.then("turn.refused").saying(
        "turn.refused", turn_id="t2", status="refused", submitted_at=at(4), ended_at=at(4)
    )
    assert refused.state.open_turn == "t1"


def test_a_turn_that_does_not_want_to_wait_is_taken_when_nothing_runs() -> None:
    after(opening()).when(turn("t1", on_busy="reject")).then("turn.accepted", commands=(OPEN,))


def test_the_queue_of_turns_is_bounded() -> None:
    line = [turn(f"q{n}") for n in range(MAX_QUEUED_TURNS)]
    full = after(*RUNNING, *line).when(turn("late"))
    full.then("turn.refused").saying("turn.refused", turn_id="late", status="refused")
    assert b"queue_full" in bytes(full.events[0].data)


def test_an_interrupting_turn_stops_the_running_one_and_keeps_its_place_in_the_line() -> None:
    asked = after(*RUNNING, turn("t2")).when(turn("t3", on_busy="interrupt"))
    asked.then("turn.accepted", commands=(Interrupt(turn_id="t1"),))
    asked.saying("turn.accepted", behind="t2")
    assert [queued.turn.turn_id for queued in asked.state.queue] == ["t2", "t3"]


def test_interrupting_turns_go_out_in_the_order_in_which_they_were_accepted() -> None:
    """However long the interrupt of the first takes at the provider."""
    wire = Wire()
    cut_in = [turn(f"t{n}", f"no, {n}", n, on_busy="interrupt") for n in (2, 3, 4)]
    session, sent = after(*RUNNING, *cut_in), list[str]()
    session = Given(session.when(seen(wire.prompt(), wire.interrupted(), wire.idle())).state)
    while (open_turn := session.state.open_turn) is not None:
        sent.append(open_turn)
        session = Given(session.when(seen(*wire.reply(f"no, {open_turn[1:]}"))).state)
    assert sent == ["t2", "t3", "t4"]


def test_a_log_in_which_interrupting_turns_went_first_still_folds_to_what_happened() -> None:
    """Events of earlier builds do not say which turn theirs waited behind."""
    events = list(history(*RUNNING, turn("t2"), turn("t3", on_busy="interrupt")))
    data = msgspec.json.decode(events[-1].data)
    del data["behind"]
    events[-1] = replace(events[-1], data=msgspec.Raw(msgspec.json.encode(data)))
    assert [queued.turn.turn_id for queued in given(*events).state.queue] == ["t3", "t2"]


def test_an_interrupt_stops_the_running_turn_and_leaves_the_line() -> None:
    asked = after(*RUNNING, turn("t2")).when(interrupting(5))
    asked.then(commands=(Interrupt(turn_id="t1"),))
    assert len(asked.state.queue) == 1


def test_an_interrupt_without_a_turn_changes_nothing() -> None:
    after(opening()).when(interrupting()).then()


def test_the_interrupted_turn_ends_with_the_providers_idle() -> None:
    wire = Wire()
    said = (wire.prompt(), wire.running(), wire.message("so far"), wire.interrupted(), wire.idle())
    ended = after(*RUNNING, turn("t2")).when(seen(*said))
    assert [event.type for event in ended.events[-2:]] == ["turn.interrupted", "turn.started"]
    ended.saying("turn.interrupted", status="interrupted", reply="so far", stop_reason="end_turn")


def test_an_interrupt_that_overtook_the_message_ends_nothing() -> None:
    wire = Wire()
    ended = after(*RUNNING).when(seen(wire.interrupted(), *wire.reply()))
    assert [event.type for event in ended.events[-2:]] == ["turn.completed", "session.idled"]


def test_a_turn_that_waits_for_its_next_attempt_is_interrupted_by_ourselves() -> None:
    waiting = after(*RUNNING, failed(second=10, chance=0.5))
    waiting.when(interrupting(11)).then("turn.interrupted", "session.idled")
    waiting.when(elapsed(500)).then(
        "turn.started", commands=(Send(turn_id="t1", input_id="turn:t1", attempt=2, look=True),)
    )


def test_an_interrupting_turn_ends_one_that_waits_and_runs() -> None:
    waiting = after(*RUNNING, failed(second=10, chance=0.5))
    send = Send(turn_id="t2", input_id="turn:t2", attempt=1, look=False)
    asked = waiting.when(turn("t2", second=11, on_busy="interrupt"))
    asked.then("turn.accepted", "turn.interrupted", "turn.started", commands=(send,))


def test_a_refused_turn_is_part_of_its_own_trace() -> None:
    refused = after(*RUNNING).when(turn("t2", on_busy="reject", traceparent=TRACEPARENT))
    assert refused.events[0].trace_id == TRACEPARENT.split("-")[1]
