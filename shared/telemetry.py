"""Tracing: one trace per turn, across processes, carried as W3C `traceparent` texts.

Everything here works before `start` too, at next to no cost: nothing is kept then, and a traceparent that came in
is handed on as it is. All other code passes texts around and never sees the SDK.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from datetime import datetime
from functools import partial
from types import TracebackType

from opentelemetry import trace
from opentelemetry.context import attach, detach
from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SpanExporter
from opentelemetry.sdk.trace.sampling import ParentBased
from opentelemetry.sdk.util.instrumentation import InstrumentationScope
from opentelemetry.trace import Span, SpanKind, Status, StatusCode

from shared.settings import TelemetrySettings
from shared.span_export import ClickHouseSpans, SpanQueue
from shared.span_light import LightTracer
from shared.span_names import SpanName
from shared.span_sampling import PerSecond
from shared.traceparent import NOTHING, read, trace_id_of, write

__all__ = [
    "Attributes",
    "Running",
    "Span",
    "SpanKind",
    "Telemetry",
    "begin",
    "in_place_of",
    "kept",
    "note",
    "record",
    "span",
    "start",
    "trace_id_of",
    "traceparent",
    "under",
]

Attributes = Mapping[str, str | int | float | bool]

SCOPE = "turnstile"
STOP_TIMEOUT_S = 5.0


class _Current(trace.TracerProvider):
    """The global provider. It forwards to the one that runs now, because the global one can be set only once."""

    def __init__(self) -> None:
        self.provider: trace.TracerProvider = trace.NoOpTracerProvider()

    def get_tracer(self, *args: object, **kwargs: object) -> trace.Tracer:
        return self.provider.get_tracer(*args, **kwargs)  # type: ignore[arg-type]


_current = _Current()
_tracer: LightTracer | None = None


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
    # What OpenTelemetry's own variable asks for comes first; the provider reads it.
    sampler = (
        None
        if settings.otel_traces_sampler
        else ParentBased(PerSecond(settings.turnstile_traces_per_second))
    )
    provider = TracerProvider(sampler=sampler, resource=resource, shutdown_on_exit=False)
    target = exporter or _exporter(settings, clickhouse_url)
    queue = SpanQueue(target, resource, InstrumentationScope(SCOPE)) if target else None
    if queue:
        provider.add_span_processor(queue)
    _tracer = LightTracer(provider.sampler, queue.put if queue else _discard)
    _current.provider = provider
    if trace.get_tracer_provider() is not _current:
        trace.set_tracer_provider(_current)
    return Telemetry(provider, queue)


def _discard(_: object) -> None:
    """Where spans go that nobody exports."""


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
    if parent:
        return _Scope(_start(name, parent, kind, attributes, links))
    current = trace.get_current_span()
    above = current.get_span_context()
    if _tracer is None or _tracer.leaves_out(above):
        return nullcontext(current)
    return _Scope(_tracer.start(name, above, kind, attributes, _links(links)))


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

    `error` is a stable word for `error.type`; None means it went well. What failed is kept, whether its trace is or
    not.
    """
    made = _start(name, parent, kind, attributes, links, start, keep=error is not None)
    if error is not None:
        _fail(made, error)
    made.end(end_time=max(_nanoseconds(start), _nanoseconds(end)))
    return write(made.get_span_context())


class Running:
    """A span that began and is ended later, perhaps by another task; never current by itself. `again` begins it
    once more, to be kept although its trace is not."""

    __slots__ = ("_again", "_span", "traceparent")

    def __init__(self, span: Span, again: Callable[[], Span]) -> None:
        self._span = span
        self._again = None if span.is_recording() else again
        self.traceparent = write(span.get_span_context())

    def end(
        self, at: datetime, *, attributes: Attributes | None = None, error: str | None = None
    ) -> None:
        """End it at `at` (aware); `error` is a stable word for `error.type`, and then it is kept in any case."""
        if error is not None and self._again is not None:
            self._span, self._again = self._again(), None
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
    begun = partial(_start, name, parent, kind, attributes, links, start)
    return Running(begun(), partial(begun, keep=True))


@contextmanager
def in_place_of(
    tracer: trace.Tracer,
    name: str,
    attributes: Attributes,
    *,
    error_type: Callable[[Exception], str],
) -> Iterator[None]:
    """A span in the scope of a library's tracer, for a call that is made in the library's place: current inside,
    well when the block ends, failed with `error_type` of what is raised."""
    made = tracer.start_span(name, kind=SpanKind.CLIENT, attributes=attributes)
    token = attach(trace.set_span_in_context(made))
    try:
        yield
        made.set_status(StatusCode.OK)
    except Exception as error:
        _fail(made, error_type(error))
        raise
    finally:
        detach(token)
        made.end()


class _Follower(trace.NonRecordingSpan):
    """A span that stands for whichever one `parent` names when it is asked."""

    def __init__(self, parent: Callable[[], str]) -> None:
        super().__init__(NOTHING)
        self._parent = parent

    def get_span_context(self) -> trace.SpanContext:
        return read(self._parent())


@contextmanager
def under(parent: Callable[[], str]) -> Iterator[None]:
    """Spans begun inside without a parent, also by tasks and libraries, hang below what `parent` returns then.

    For work that outlasts the spans it is done for, such as one stream for many turns. "" means a new trace.
    """
    token = attach(trace.set_span_in_context(_Follower(parent)))
    try:
        yield
    finally:
        detach(token)


def note(attributes: Attributes) -> None:
    """Add attributes to the current span, if there is one that is kept."""
    trace.get_current_span().set_attributes(dict(attributes))


def traceparent(span: Span | None = None) -> str:
    """The span as header text, the current one where none is given; "" when there is none."""
    found = trace.get_current_span() if span is None else span
    return write(found.get_span_context())


def kept() -> bool:
    """Whether the current span is kept, and so are the spans that libraries make below it."""
    return trace.get_current_span().is_recording()


def _fail(span: Span, error: str) -> None:
    span.set_attribute("error.type", error)
    span.set_status(Status(StatusCode.ERROR))


def _start(
    name: SpanName,
    parent: str,
    kind: SpanKind,
    attributes: Attributes | None,
    links: Sequence[str],
    at: datetime | None = None,
    *,
    keep: bool = False,
) -> Span:
    above = read(parent) if parent else trace.get_current_span().get_span_context()
    if _tracer is None:
        return trace.NonRecordingSpan(above)
    began = _nanoseconds(at) if at else None
    return _tracer.start(name, above, kind, attributes, _links(links), began, keep=keep)


def _links(texts: Sequence[str]) -> Sequence[trace.Link]:
    return [trace.Link(context) for text in texts if (context := read(text)).is_valid]


def _nanoseconds(moment: datetime) -> int:
    return int(moment.timestamp()) * 1_000_000_000 + moment.microsecond * 1000
