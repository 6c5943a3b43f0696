"""How is work traced? One trace per turn, across processes, carried as W3C `traceparent` texts.

Everything here works before `start` too, at next to no cost: nothing is kept then, and a traceparent that came in
is handed on as it is. The rest of the house passes texts around and never sees the SDK.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager
from datetime import datetime
from types import TracebackType

from opentelemetry import trace
from opentelemetry.context import Context, attach, detach
from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SpanExporter
from opentelemetry.trace import Span, SpanKind, Status, StatusCode

from shared.settings import TelemetrySettings
from shared.span_export import ClickHouseSpans
from shared.span_names import SpanName
from shared.span_queue import SpanQueue

__all__ = [
    "Attributes",
    "Running",
    "Span",
    "SpanKind",
    "Telemetry",
    "begin",
    "record",
    "span",
    "start",
    "trace_id_of",
    "traceparent",
]

Attributes = Mapping[str, str | int | float | bool]

SCOPE = "turnstile"
STOP_TIMEOUT_S = 5.0
# Some ids of our contract are long; nothing we set on purpose is longer.
MAX_ATTRIBUTE = 1024

_TRACEPARENT = re.compile(r"([0-9a-f]{2})-([0-9a-f]{32})-([0-9a-f]{16})-([0-9a-f]{2})(-.*)?")
_NOTHING = trace.SpanContext(0, 0, is_remote=True)


class _Current(trace.TracerProvider):
    """The global provider. It forwards to the one that runs now, because the global one can be set only once."""

    def __init__(self) -> None:
        self.provider: trace.TracerProvider = trace.NoOpTracerProvider()

    def get_tracer(self, *args: object, **kwargs: object) -> trace.Tracer:
        return self.provider.get_tracer(*args, **kwargs)  # type: ignore[arg-type]


_current = _Current()
_tracer: trace.Tracer = trace.NoOpTracer()


class Telemetry:
    """Tracing that runs. `shutdown` exports what waits and returns within STOP_TIMEOUT_S."""

    def __init__(self, provider: TracerProvider, queue: SpanQueue | None) -> None:
        self._provider = provider
        self._queue = queue

    def flush(self, timeout: float = STOP_TIMEOUT_S) -> bool:
        """Wait until all spans ended by now were exported; False when time ran out."""
        return self._queue is None or self._queue.force_flush(int(timeout * 1000))

    def shutdown(self) -> None:
        """Stop; spans ended later are dropped and counted. Blocks: call it after the loop's work is done."""
        if self._queue is not None:
            self._queue.shutdown(STOP_TIMEOUT_S)


def start(
    service: str,
    instance: str,
    settings: TelemetrySettings,
    clickhouse_url: str | None,
    *,
    exporter: SpanExporter | None = None,
) -> Telemetry:
    """Begin to export spans: to the OTLP endpoint when one is set, else into `otel_traces` at `clickhouse_url`.

    With neither, spans carry context but are not kept. `exporter` replaces both (tests). Also becomes the global
    provider, which the Anthropic SDK uses for spans of its own. Nothing here waits for the other side.
    """
    global _tracer
    resource = Resource.create(
        {"service.namespace": "turnstile", "service.name": service, "service.instance.id": instance}
    )
    provider = TracerProvider(resource=resource, shutdown_on_exit=False)
    target = exporter or _exporter(settings, clickhouse_url)
    queue = SpanQueue(target) if target else None
    if queue:
        provider.add_span_processor(queue)
    _current.provider = provider
    _tracer = provider.get_tracer(SCOPE)
    if trace.get_tracer_provider() is not _current:
        trace.set_tracer_provider(_current)
    return Telemetry(provider, queue)


def _exporter(settings: TelemetrySettings, clickhouse_url: str | None) -> SpanExporter | None:
    endpoint = settings.otel_exporter_otlp_endpoint
    if endpoint:
        return OTLPSpanExporter(endpoint=f"{endpoint.rstrip('/')}/v1/traces", timeout=5)
    return ClickHouseSpans(clickhouse_url) if clickhouse_url else None


class _Scope(AbstractContextManager[Span]):
    """A span that is current inside the `with` block."""

    __slots__ = ("_span", "_token")

    def __init__(self, span: Span) -> None:
        self._span = span

    def __enter__(self) -> Span:
        self._token = attach(trace.set_span_in_context(self._span))
        return self._span

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        at: TracebackType | None,
    ) -> None:
        detach(self._token)
        # The type only: the words of an error may quote what a user said.
        if kind is not None and issubclass(kind, Exception):
            _fail(self._span, kind.__qualname__)
        self._span.end()


def span(
    name: SpanName,
    *,
    parent: str = "",
    kind: SpanKind = SpanKind.INTERNAL,
    attributes: Attributes | None = None,
    links: Sequence[str] = (),
) -> AbstractContextManager[Span]:
    """A span around the `with` block, current inside it.

    `parent` and `links` are traceparent texts; "" as parent means the current span (or a new trace without one), a
    malformed parent begins a new trace, a malformed link is left out. An exception passes through and marks the
    span as failed with its type; a cancellation does not.
    """
    started = _tracer.start_span(
        name,
        context=_context(parent),
        kind=kind,
        attributes=attributes,
        links=_links(links),
        record_exception=False,
        set_status_on_exception=False,
    )
    return _Scope(started)


def record(
    name: SpanName,
    *,
    parent: str,
    start: datetime,
    end: datetime,
    kind: SpanKind = SpanKind.INTERNAL,
    attributes: Attributes | None = None,
    links: Sequence[str] = (),
    error: str | None = None,
) -> str:
    """A span that happened already, with its own times (aware datetimes); returns its traceparent.

    `error` is a stable word for `error.type`; None means it went well.
    """
    made = _tracer.start_span(
        name,
        context=_context(parent),
        kind=kind,
        attributes=attributes,
        links=_links(links),
        start_time=_nanoseconds(start),
    )
    if error is not None:
        _fail(made, error)
    made.end(end_time=max(_nanoseconds(start), _nanoseconds(end)))
    return _text(made.get_span_context())


class Running:
    """A span that began and is ended later, perhaps by another task; never current by itself."""

    __slots__ = ("_span", "traceparent")

    def __init__(self, span: Span) -> None:
        self._span = span
        self.traceparent = _text(span.get_span_context())

    def end(
        self, at: datetime, *, attributes: Attributes | None = None, error: str | None = None
    ) -> None:
        """End it at `at` (aware); `error` is a stable word for `error.type`."""
        self._span.set_attributes(dict(attributes or {}))
        if error is not None:
            _fail(self._span, error)
        self._span.end(end_time=_nanoseconds(at))


def begin(
    name: SpanName,
    *,
    parent: str,
    start: datetime,
    kind: SpanKind = SpanKind.INTERNAL,
    attributes: Attributes | None = None,
    links: Sequence[str] = (),
) -> Running:
    """A span from `start` (aware) until it is ended; others may hang below its `traceparent` meanwhile."""
    return Running(
        _tracer.start_span(
            name,
            context=_context(parent),
            kind=kind,
            attributes=attributes,
            links=_links(links),
            start_time=_nanoseconds(start),
        )
    )


def traceparent() -> str:
    """The current span as header text; "" when there is none."""
    return _text(trace.get_current_span().get_span_context())


def trace_id_of(traceparent: str) -> str:
    """The 32 hex digits of the trace; "" when the text is none or invalid."""
    context = _parse(traceparent)
    return f"{context.trace_id:032x}" if context.is_valid else ""


def _fail(span: Span, error: str) -> None:
    span.set_attribute("error.type", error)
    span.set_status(Status(StatusCode.ERROR))


def _context(parent: str) -> Context | None:
    """None lets the tracer look at the current span."""
    if not parent:
        return None
    return trace.set_span_in_context(trace.NonRecordingSpan(_parse(parent)), Context())


def _links(texts: Sequence[str]) -> list[trace.Link]:
    return [trace.Link(context) for text in texts if (context := _parse(text)).is_valid]


def _parse(text: str) -> trace.SpanContext:
    """W3C Trace Context, level 1, section 3.2: version ff and all-zero ids are invalid, and later versions may add
    fields after a dash. An invalid context when the text is none."""
    match = _TRACEPARENT.fullmatch(text)
    if match is None or match[1] == "ff" or (match[1] == "00" and match[5]):
        return _NOTHING
    flags = trace.TraceFlags(int(match[4], 16))
    return trace.SpanContext(
        int(match[2], 16), int(match[3], 16), is_remote=True, trace_flags=flags
    )


def _text(context: trace.SpanContext) -> str:
    if not context.is_valid:
        return ""
    return f"00-{context.trace_id:032x}-{context.span_id:016x}-{context.trace_flags:02x}"


def _nanoseconds(moment: datetime) -> int:
    return int(moment.timestamp()) * 1_000_000_000 + moment.microsecond * 1000
