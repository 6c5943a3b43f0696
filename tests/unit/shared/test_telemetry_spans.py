"""Spans: parents, links, errors, times, and what they cost when nobody listens."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta

import pytest
from opentelemetry import trace
from opentelemetry.sdk.trace import ReadableSpan
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.sdk.trace.sampling import Decision

from shared import telemetry
from shared.settings import TelemetrySettings
from shared.span_names import SPAN_NAMES, http_span
from shared.span_sampling import PerSecond
from shared.telemetry import SpanKind
from shared.traceparent import read, write

pytestmark = pytest.mark.unit

PARENT = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"
UNSAMPLED = PARENT[:-1] + "0"
AT = datetime(2026, 11, 21, 10, 0, 0, 123456, tzinfo=UTC)


class Kept:
    """Telemetry whose spans are looked at."""

    def __init__(self) -> None:
        self._exporter = InMemorySpanExporter()
        settings = TelemetrySettings(otel_exporter_otlp_endpoint=None)
        self.telemetry = telemetry.start("svc", "i1", settings, None, exporter=self._exporter)

    def spans(self) -> list[ReadableSpan]:
        assert self.telemetry.flush()
        return list(self._exporter.get_finished_spans())

    def one(self) -> ReadableSpan:
        (span,) = self.spans()
        return span


@pytest.fixture
def kept() -> Iterator[Kept]:
    kept = Kept()
    yield kept
    kept.telemetry.shutdown()


def text_of(span: ReadableSpan) -> str:
    context = span.get_span_context()
    assert context is not None
    return write(context)


def test_a_span_continues_the_trace_of_its_parent(kept: Kept) -> None:
    with telemetry.span("provider.send", parent=PARENT, kind=SpanKind.CLIENT, attributes={"n": 1}):
        inside = telemetry.traceparent()
    span = kept.one()
    assert telemetry.trace_id_of(inside) == telemetry.trace_id_of(PARENT)
    assert text_of(span) == inside
    assert span.parent is not None
    assert write(span.parent) == PARENT
    assert (span.name, span.kind, dict(span.attributes or {})) == (
        "provider.send",
        SpanKind.CLIENT,
        {"n": 1},
    )
    assert span.resource.attributes["service.name"] == "svc"
    assert span.resource.attributes["service.instance.id"] == "i1"


def test_without_a_parent_the_current_span_is_the_parent(kept: Kept) -> None:
    with telemetry.span("provider.open"):
        outer = telemetry.traceparent()
        with telemetry.span("provider.send"):
            assert telemetry.trace_id_of(telemetry.traceparent()) == telemetry.trace_id_of(outer)
        assert telemetry.traceparent() == outer
    assert telemetry.traceparent() == ""
    inner, root = kept.spans()
    assert inner.parent is not None
    assert write(inner.parent) == outer
    assert root.parent is None


def test_a_malformed_parent_begins_a_new_trace(kept: Kept) -> None:
    with telemetry.span("provider.open"), telemetry.span("provider.send", parent="nonsense"):
        pass
    inner, outer = kept.spans()
    assert inner.parent is None
    assert text_of(inner)[3:35] != text_of(outer)[3:35]


def test_an_unsampled_parent_is_respected_and_handed_on(kept: Kept) -> None:
    with telemetry.span("provider.send", parent=UNSAMPLED):
        inside = telemetry.traceparent()
    assert inside.endswith("-00")
    assert telemetry.trace_id_of(inside) == telemetry.trace_id_of(PARENT)
    assert kept.spans() == []


def test_a_busy_process_keeps_so_many_traces_a_second_and_those_whole() -> None:
    exporter = InMemorySpanExporter()
    settings = TelemetrySettings(turnstile_traces_per_second=2)
    running = telemetry.start("svc", "i1", settings, None, exporter=exporter)
    parents = []
    for _ in range(50):
        with telemetry.span("provider.send"):
            parents.append(telemetry.traceparent())
            with telemetry.span("provider.watch") as inside:
                assert inside.is_recording() is parents[-1].endswith("-03")
                assert telemetry.trace_id_of(telemetry.traceparent()) == parents[-1][3:35]
    assert running.flush()
    running.shutdown()
    kept = [text for text in parents if text.endswith("-03")]
    assert 2 <= len(kept) <= 4  # the second may have changed meanwhile
    assert len(exporter.get_finished_spans()) == 2 * len(kept)
    assert len({text[3:35] for text in parents}) == 50


def test_what_is_kept_is_counted_anew_each_second() -> None:
    now = 7.9
    sampler = PerSecond(1, lambda: now)

    def kept(sampler: PerSecond = sampler) -> bool:
        return sampler.should_sample(None, 1, "x").decision is Decision.RECORD_AND_SAMPLE

    assert [kept(), kept()] == [True, False]
    now = 8.0
    assert [kept(), kept()] == [True, False]
    assert not kept(PerSecond(0))


def test_what_failed_is_kept_in_any_case(kept: Kept) -> None:
    telemetry.begin("invoke_agent", parent=UNSAMPLED, start=AT).end(AT)
    telemetry.record("chat", parent=UNSAMPLED, start=AT, end=AT)
    failed = telemetry.begin("invoke_agent", parent=UNSAMPLED, start=AT, attributes={"n": 1})
    failed.end(AT, attributes={"m": 2}, error="overloaded")
    telemetry.record("chat", parent=UNSAMPLED, start=AT, end=AT, error="overloaded")
    assert [span.name for span in kept.spans()] == ["invoke_agent", "chat"]
    attempt = kept.spans()[0]
    assert dict(attempt.attributes or {}) == {"n": 1, "m": 2, "error.type": "overloaded"}
    assert telemetry.trace_id_of(text_of(attempt)) == telemetry.trace_id_of(PARENT)


def test_links_are_kept_and_malformed_ones_left_out(kept: Kept) -> None:
    with telemetry.span("provider.send", links=[PARENT, "", "nonsense"]):
        pass
    assert [write(link.context) for link in kept.one().links] == [PARENT]


def test_an_error_marks_the_span_with_its_type_and_not_its_words(kept: Kept) -> None:
    with pytest.raises(ValueError, match="what the user said"), telemetry.span("provider.send"):
        raise ValueError("what the user said")
    span = kept.one()
    assert span.status.status_code is trace.StatusCode.ERROR
    assert dict(span.attributes or {}) == {"error.type": "ValueError"}
    assert "what the user said" not in span.to_json()


def test_a_cancellation_is_no_error(kept: Kept) -> None:
    with pytest.raises(asyncio.CancelledError), telemetry.span("provider.watch"):
        raise asyncio.CancelledError
    assert kept.one().status.status_code is trace.StatusCode.UNSET


def test_a_recorded_span_has_its_own_times(kept: Kept) -> None:
    end = AT + timedelta(seconds=2)
    made = telemetry.record("chat", parent=PARENT, start=AT, end=end, error="overloaded")
    span = kept.one()
    assert text_of(span) == made
    assert (span.start_time, span.end_time) == (1795255200123456000, 1795255202123456000)
    assert dict(span.attributes or {}) == {"error.type": "overloaded"}


def test_a_recorded_span_never_ends_before_it_starts(kept: Kept) -> None:
    telemetry.record("chat", parent="", start=AT, end=AT - timedelta(seconds=1))
    span = kept.one()
    assert span.start_time == span.end_time


def test_a_span_may_be_ended_later(kept: Kept) -> None:
    running = telemetry.begin("invoke_agent", parent=PARENT, start=AT)
    telemetry.record("chat", parent=running.traceparent, start=AT, end=AT)
    running.end(AT + timedelta(seconds=1), attributes={"turnstile.attempt": 2})
    chat, attempt = kept.spans()
    assert chat.parent is not None
    assert write(chat.parent) == text_of(attempt)
    assert dict(attempt.attributes or {}) == {"turnstile.attempt": 2}


def test_spans_of_libraries_nest_in_ours(kept: Kept) -> None:
    """As the provider's SDK does it: through the global provider, under the current span."""
    tracer = trace.get_tracer("com.example.library")
    with telemetry.span("provider.send"):
        ours = telemetry.traceparent()
        with tracer.start_as_current_span("library call"):
            pass
    theirs = next(span for span in kept.spans() if span.name == "library call")
    assert theirs.parent is not None
    assert write(theirs.parent) == ours


def test_spans_of_long_work_hang_below_what_it_is_done_for_by_then(kept: Kept) -> None:
    parents = [PARENT]
    with telemetry.under(lambda: parents[-1]):
        with telemetry.span("provider.reconcile"):
            pass
        parents.append("")
        with telemetry.span("provider.reconcile"):
            telemetry.note({"turnstile.reconcile.found": 3})
    first, second = kept.spans()
    assert first.parent == read(PARENT)
    assert second.parent is None
    assert (second.attributes or {})["turnstile.reconcile.found"] == 3
    assert telemetry.traceparent() == ""


def test_a_note_without_a_span_goes_nowhere() -> None:
    telemetry.note({"turnstile.adopted": True})


def test_a_second_start_replaces_the_first(kept: Kept) -> None:
    second = Kept()
    trace.get_tracer("com.example.other").start_span("late").end()
    with telemetry.span("provider.send"):
        pass
    assert [span.name for span in second.spans()] == ["late", "provider.send"]
    assert kept.spans() == []
    second.telemetry.shutdown()


@pytest.mark.parametrize(
    "text",
    [
        "",
        "nonsense",
        PARENT.upper(),
        PARENT + "-more",
        "ff" + PARENT[2:],
        f"00-{'0' * 32}-b7ad6b7169203331-01",
        f"00-0af7651916cd43dd8448eb211c80319c-{'0' * 16}-01",
    ],
)
def test_what_is_no_traceparent_is_no_context(text: str) -> None:
    assert not read(text).is_valid
    assert telemetry.trace_id_of(text) == ""


def test_a_traceparent_of_a_later_version_is_read() -> None:
    assert telemetry.trace_id_of("01" + PARENT[2:] + "-more") == PARENT[3:35]


def test_http_spans_come_from_the_closed_list() -> None:
    assert http_span("POST", "/v1/sessions/{session_id}/turns") in SPAN_NAMES
    assert http_span("GET", "/v1/sessions/ses_1") == "HTTP"
