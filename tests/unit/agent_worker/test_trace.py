"""A turn's trace: what led to it, one span an attempt, and below that what the agent did."""

from __future__ import annotations

from collections.abc import Iterator

import msgspec
import pytest
from msgspec.structs import replace
from opentelemetry.sdk.trace import ReadableSpan

from shared import telemetry
from shared.trace_context import joined, parted
from shared.traceparent import read, write
from tests.builders import TRACEPARENT, Wire, at, bound, elapsed, failed, opening, seen, turn
from tests.tracing import Tracing, parent_of, text_of, tracing
from tests.unit.agent_worker.told import Told, moment

pytestmark = pytest.mark.unit
OTHER = "00-11111111111111111111111111111111-2222222222222222-01"


@pytest.fixture
def kept() -> Iterator[Tracing]:
    with tracing() as running:
        yield running


def names(spans: list[ReadableSpan]) -> list[str]:
    return [span.name for span in spans]


def of(span: ReadableSpan, name: str) -> object:
    return (span.attributes or {})[name]


def whole_turn(told: Told) -> None:
    """A turn of two model requests and a tool call, on a session that is new."""
    wire = Wire()
    told.tell(turn(traceparent=TRACEPARENT))
    told.tell(bound(second=1), second=1)
    asked = wire.event("span.model_request_start")
    told.tell(seen(wire.prompt(), wire.running(), asked), second=5)
    ended = wire.event("span.model_request_end", model_request_start_id=asked.id, is_error=True)
    used = wire.tool_use()
    result = wire.event("agent.tool_result", tool_use_id=used.id, is_error=False)
    told.tell(seen(ended, used, result, wire.message("hi"), wire.idle()), second=10)


def test_a_turn_reads_from_claim_to_tool_call(kept: Tracing) -> None:
    whole_turn(Told())
    attempt = kept.one("invoke_agent")
    led = [span for span in kept.spans() if parent_of(span) == TRACEPARENT]
    below = [span for span in kept.spans() if parent_of(span) == text_of(attempt)]
    write, say = "head.write", "send turnstile.events.v1"
    assert names(led) == [write, "lease.claim", say, write, say, "invoke_agent"]
    assert names(below) == [write, say, write, say, "chat", "execute_tool", "provider.watch"]
    assert len(led) + len(below) == len(kept.spans())
    assert of(attempt, "turnstile.turn.status") == "completed"
    assert of(attempt, "gen_ai.conversation.id") == "sesn_1"
    claim = kept.one("lease.claim")
    assert of(claim, "turnstile.epoch") == 3
    assert claim.start_time == nanoseconds(0), "asked for before the turn came"
    assert of(kept.one("provider.watch"), "turnstile.watch.events") == 8


def test_calls_have_the_providers_times_and_errors(kept: Tracing) -> None:
    whole_turn(Told())
    chat, tool = kept.one("chat"), kept.one("execute_tool")
    assert (chat.start_time, chat.end_time) == (nanoseconds(2), nanoseconds(5))
    assert of(chat, "error.type") == "model_request_failed"
    assert (of(tool, "gen_ai.tool.name"), of(tool, "gen_ai.tool.type")) == ("bash", "extension")
    assert "error.type" not in (tool.attributes or {})


def test_a_model_requests_input_counts_what_came_from_the_cache_too(kept: Tracing) -> None:
    told, wire = Told(), Wire()
    told.tell(turn(traceparent=TRACEPARENT), bound(second=1))
    cached = {"cache_read_input_tokens": 2_000, "cache_creation_input_tokens": 100}
    began = wire.event("span.model_request_start")
    ended = wire.spent(44, 7, **cached)
    raw = ended.raw[:-1] + b',"model_request_start_id":"' + began.id.encode() + b'"}'
    told.tell(seen(wire.prompt(), began, replace(ended, raw=raw), wire.idle()), second=10)
    usage = {
        name.removeprefix("gen_ai.usage."): value
        for name, value in (kept.one("chat").attributes or {}).items()
        if name.startswith("gen_ai.usage.")
    }
    assert usage == {
        "input_tokens": 2_144,
        "output_tokens": 7,
        "cache_read.input_tokens": 2_000,
        "cache_creation.input_tokens": 100,
    }


def test_an_events_record_and_the_open_turns_spans_carry_the_tracestate(kept: Tracing) -> None:
    context = joined(TRACEPARENT, "congo=t61rcWkgMzE")
    told = Told()
    (event, *_) = [
        event
        for event in told.tell(turn(traceparent=context), bound(second=1))
        if event.type == "turn.accepted"
    ]
    data = msgspec.json.decode(event.data)
    assert (data["traceparent"], data["tracestate"]) == (TRACEPARENT, "congo=t61rcWkgMzE")
    assert event.trace_id == TRACEPARENT.split("-")[1]
    assert told.trace.parent_of(event) == context
    assert parted(told.trace.traceparent(told.state))[1] == "congo=t61rcWkgMzE"


def test_calls_of_a_provider_whose_clock_is_ahead_end_when_we_heard_of_them(kept: Tracing) -> None:
    told, wire = Told(), Wire(second=9 * 3600)
    told.tell(turn(traceparent=TRACEPARENT), bound(second=1), second=1)
    began, used = wire.event("span.model_request_start"), wire.tool_use()
    ended = wire.event("span.model_request_end", model_request_start_id=began.id)
    result = wire.event("agent.tool_result", tool_use_id=used.id)
    heard = replace(seen(wire.prompt(), began, used, ended, result, wire.idle()), at=at(10))
    told.tell(heard, second=10)
    chat, tool, attempt = kept.one("chat"), kept.one("execute_tool"), kept.one("invoke_agent")
    assert (chat.start_time, chat.end_time) == (nanoseconds(8), nanoseconds(10))
    assert (tool.start_time, tool.end_time) == (nanoseconds(8), nanoseconds(10))
    assert (attempt.start_time, attempt.end_time) == (nanoseconds(1), nanoseconds(10))


def test_a_clock_that_is_set_back_gives_no_span_that_ends_before_it_began(kept: Tracing) -> None:
    told = Told(second=50)
    told.tell(turn(second=50, traceparent=TRACEPARENT), bound(second=50), second=50)
    told.leave(second=20)
    assert [s.name for s in kept.spans() if (s.end_time or 0) < (s.start_time or 0)] == []


def nanoseconds(second: float) -> int:
    return int(moment(second).timestamp()) * 10**9


def test_without_a_turn_nothing_is_traced(kept: Tracing) -> None:
    told = Told()
    told.tell(opening())
    told.tell(turn(traceparent=TRACEPARENT, second=3), second=3)
    assert names(kept.spans()) == ["head.write", "send turnstile.events.v1"]


def test_a_turn_of_a_publisher_without_a_trace_is_not_put_into_another(kept: Tracing) -> None:
    told = Told()
    told.tell(turn())
    assert kept.spans() == []


def test_a_write_that_ends_a_turn_is_its_last_and_not_the_next_ones(kept: Tracing) -> None:
    told, wire = Told(), Wire()
    told.tell(turn(traceparent=TRACEPARENT), turn("t2", traceparent=OTHER), bound())
    told.tell(seen(*wire.reply()), second=9)
    first, second = kept.one("invoke_agent"), told.trace.traceparent(told.state)
    assert (told.state.open_turn, read(second).trace_id) == ("t2", read(OTHER).trace_id)
    assert parent_of(kept.spans("head.write")[-1]) == text_of(first)


@pytest.mark.parametrize("same_process", [True, False])
def test_a_second_attempt_is_linked_and_not_nested(kept: Tracing, same_process: bool) -> None:
    told = Told()
    told.tell(turn(traceparent=TRACEPARENT), bound())
    told.tell(failed(second=2), second=2)
    told.leave(2)
    (first,) = kept.spans("invoke_agent")
    again = Told(told.state, told.attempts if same_process else None, second=60)
    again.tell(elapsed(60), second=60)
    again.leave(61)
    second = kept.spans("invoke_agent")[-1]
    assert [text_of(first)] * same_process == [write(link.context) for link in second.links]
    assert parent_of(first) == parent_of(second) == TRACEPARENT
    assert (of(first, "turnstile.attempt"), of(second, "turnstile.attempt")) == (1, 2)
    assert of(first, "error.type") == "retrying"
    assert len(kept.spans("invoke_agent")) == 2, "waiting for the next attempt is none"


def test_a_session_given_back_in_mid_turn_goes_on_in_a_span_of_its_own(kept: Tracing) -> None:
    told, wire = Told(), Wire()
    told.tell(turn(traceparent=TRACEPARENT), bound())
    told.tell(seen(wire.prompt(), wire.running()), second=4)
    told.leave(5)
    next = Told(told.state, second=8)
    next.tell(seen(wire.message("hi"), wire.idle()), second=9)
    first, second = kept.spans("invoke_agent")
    assert of(first, "turnstile.turn.status") == "running"
    assert of(second, "turnstile.turn.status") == "completed"
    assert second.start_time == nanoseconds(8)
    claims = kept.spans("lease.claim")
    assert [parent_of(span) for span in claims] == [TRACEPARENT, TRACEPARENT]
    assert claims[1].start_time == nanoseconds(8) - 250_000_000


def test_an_event_carries_its_own_turns_parent(kept: Tracing) -> None:
    told = Told()
    said: list[str] = []
    for input in (turn(traceparent=TRACEPARENT), turn("t2", traceparent=OTHER)):
        events = told.tell(input)
        said += [told.trace.parent_of(event) for event in events]
    assert said == ["", TRACEPARENT, OTHER]
    assert telemetry.trace_id_of(said[-1]) == "1" * 32
