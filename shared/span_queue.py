"""The bounded queue of ended spans that wait for export; it never makes the service wait.

Not the SDK's BatchSpanProcessor because that one drops without a count and stops only after 30 s.
"""

from __future__ import annotations

import threading
import time
from collections import deque

from opentelemetry.context import Context
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import ReadableSpan, Span, SpanProcessor
from opentelemetry.sdk.trace.export import SpanExporter
from opentelemetry.sdk.util.instrumentation import InstrumentationScope

from shared import logs, metrics
from shared.span_light import LightSpan

# About 2 KB a span: 32 MiB at most, half a minute of a busy gateway.
LIMIT = 16_384
BATCH = 1024
EVERY_S = 2.0

log = logs.get("telemetry")


class SpanQueue(SpanProcessor):
    """Hands ended spans to `exporter` from a thread of its own: every two seconds, or when a batch is full.

    Takes the SDK's spans as its processor (libraries use those) and ours through `put`; `resource` and `scope` are
    put on ours at export.

    A span that finds the queue full is dropped and counted in `turnstile_spans_dropped_total`.
    """

    def __init__(
        self,
        exporter: SpanExporter,
        resource: Resource,
        scope: InstrumentationScope,
        *,
        limit: int = LIMIT,
        batch: int = BATCH,
        every: float = EVERY_S,
    ) -> None:
        self._exporter = exporter
        self._resource = resource
        self._scope = scope
        self._limit = limit
        self._batch = batch
        self._every = every
        self._waiting: deque[ReadableSpan | LightSpan] = deque()
        self._wake = threading.Event()
        self._stopping = False
        self._given_up = False
        self._thread = threading.Thread(target=self._run, name="span-export", daemon=True)
        self._thread.start()

    def on_start(self, span: Span, parent_context: Context | None = None) -> None:
        """Nothing happens at a start."""

    def on_end(self, span: ReadableSpan) -> None:
        """Take a sampled span; never blocks, never raises."""
        context = span.context
        if context is not None and context.trace_flags.sampled:
            self.put(span)

    def put(self, span: ReadableSpan | LightSpan) -> None:
        """Take an ended span; never blocks, never raises."""
        if self._stopping or len(self._waiting) >= self._limit:
            reason = "stopped" if self._stopping else "queue_full"
            metrics.inc("turnstile_spans_dropped_total", reason=reason)
            return
        self._waiting.append(span)
        if len(self._waiting) >= self._batch:
            self._wake.set()

    def force_flush(self, timeout_millis: int | None = 5000) -> bool:
        """Wait until all that ended by now was handed over; False when time ran out."""
        deadline = time.monotonic() + (timeout_millis or 5000) / 1000
        while self._waiting or self._busy:
            if time.monotonic() > deadline:
                return False
            self._wake.set()
            time.sleep(0.005)
        return True

    def shutdown(self, timeout: float = 5.0) -> None:
        """Export what waits, for at most `timeout` seconds, then stop; the rest is counted as dropped."""
        if self._stopping:
            return
        self._stopping = True
        self._wake.set()
        self._thread.join(timeout * 0.8)
        self._given_up = True
        self._exporter.shutdown()
        self._thread.join(timeout * 0.2)
        if self._waiting:
            metrics.inc("turnstile_spans_dropped_total", len(self._waiting), reason="stopped")
            log.warning("spans dropped at stop", spans=len(self._waiting))

    _busy = False

    def _run(self) -> None:
        while not self._stopping:
            self._wake.wait(self._every)
            self._wake.clear()
            self._drain()
        self._drain()

    def _drain(self) -> None:
        """Export what waits now. What comes meanwhile waits for the next time: to follow it would make an insert of
        every few spans."""
        left = len(self._waiting)
        while left and not self._given_up:
            self._busy = True
            count = min(self._batch, left)
            left -= count
            batch = [self._waiting.popleft() for _ in range(count)]
            metrics.set_gauge("turnstile_spans_queued", len(self._waiting))
            try:
                self._exporter.export([self._readable(span) for span in batch])
            except Exception as error:
                metrics.inc("turnstile_spans_dropped_total", count, reason="refused")
                log.warning("spans dropped: the exporter failed", error=type(error).__name__)
        self._busy = False

    def _readable(self, span: ReadableSpan | LightSpan) -> ReadableSpan:
        if isinstance(span, LightSpan):
            return span.readable(self._resource, self._scope)
        return span
