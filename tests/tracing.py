"""Spans as they are exported, by name."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from opentelemetry.sdk.trace import ReadableSpan
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

from shared import telemetry
from shared.settings import TelemetrySettings
from shared.traceparent import write


class Tracing:
    """Telemetry whose spans are looked at."""

    def __init__(self) -> None:
        self._exporter = InMemorySpanExporter()
        settings = TelemetrySettings(otel_exporter_otlp_endpoint=None)
        self.telemetry = telemetry.start("svc", "i1", settings, None, exporter=self._exporter)

    def spans(self, name: str = "") -> list[ReadableSpan]:
        """Those that ended, in the order of their ends; only those called `name`, where given."""
        assert self.telemetry.flush()
        found = self._exporter.get_finished_spans()
        return [span for span in found if name in ("", span.name)]

    def one(self, name: str = "") -> ReadableSpan:
        """The only one."""
        (span,) = self.spans(name)
        return span


@contextmanager
def tracing() -> Iterator[Tracing]:
    """Tracing for the time of a test."""
    running = Tracing()
    try:
        yield running
    finally:
        running.telemetry.shutdown()


def text_of(span: ReadableSpan) -> str:
    """The span's own traceparent."""
    context = span.get_span_context()
    assert context is not None
    return write(context)


def parent_of(span: ReadableSpan) -> str:
    """The traceparent of its parent; "" for a root."""
    return write(span.parent) if span.parent else ""
