"""Exports spans to ClickHouse when there is no collector: as JSONEachRow over its HTTP interface.

Runs in the exporting thread only. While ClickHouse is away a batch is tried again with growing pauses and the
queue behind it fills up; what ClickHouse refuses is dropped and counted.
"""

from __future__ import annotations

import base64
import http.client
import json
import random
import threading
import time
from collections import deque
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any
from urllib.parse import SplitResult, unquote, urlencode, urlsplit

import msgspec
from opentelemetry.context import Context
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import ReadableSpan, Span, SpanProcessor
from opentelemetry.sdk.trace.export import SpanExporter, SpanExportResult
from opentelemetry.sdk.util.instrumentation import InstrumentationScope
from opentelemetry.trace import SpanKind, StatusCode

from shared import logs, metrics
from shared.span_light import LightSpan

# About 2 KB a span: 32 MiB at most, half a minute of a busy gateway.
LIMIT = 16_384
# An insert costs ClickHouse 13 ms whatever is in it, and 12 us a span (docs/performance.md).
BATCH = 4096
EVERY_S = 5.0

log = logs.get("telemetry")


class SpanQueue(SpanProcessor):
    """Hands ended spans to `exporter` from a thread of its own: every five seconds, or when a batch is full.

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
            log.warning("spans_dropped", spans=len(self._waiting), reason="stopped")

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
                log.warning(
                    "spans_dropped", spans=count, reason="refused", error=type(error).__name__
                )
        self._busy = False

    def _readable(self, span: ReadableSpan | LightSpan) -> ReadableSpan:
        if isinstance(span, LightSpan):
            return span.readable(self._resource, self._scope)
        return span


_KINDS = {
    SpanKind.INTERNAL: "Internal",
    SpanKind.SERVER: "Server",
    SpanKind.CLIENT: "Client",
    SpanKind.PRODUCER: "Producer",
    SpanKind.CONSUMER: "Consumer",
}
_STATUSES = {StatusCode.UNSET: "Unset", StatusCode.OK: "Ok", StatusCode.ERROR: "Error"}
_encode = msgspec.json.Encoder().encode


def json_rows(spans: Iterable[ReadableSpan]) -> bytes:
    """The spans as JSONEachRow, one line each."""
    # All spans of a process share one resource: its text is made once.
    resources: dict[int, dict[str, str]] = {}
    return b"\n".join(_encode(row(span, resources)) for span in spans)


def row(span: ReadableSpan, resources: dict[int, dict[str, str]] | None = None) -> dict[str, Any]:
    """One row. Timestamp is text with nanoseconds in UTC, Duration is nanoseconds; attributes are text maps.

    `resources` remembers the text of resources by their id() while their spans are at hand.
    """
    known = {} if resources is None else resources
    context, parent = span.get_span_context(), span.parent
    resource = known.get(id(span.resource))
    if resource is None:
        resource = known[id(span.resource)] = texts(span.resource.attributes)
    scope = span.instrumentation_scope
    start = span.start_time or 0
    return {
        "Timestamp": nanoseconds(start),
        "TraceId": f"{context.trace_id:032x}" if context else "",
        "SpanId": f"{context.span_id:016x}" if context else "",
        "ParentSpanId": f"{parent.span_id:016x}" if parent else "",
        "TraceState": context.trace_state.to_header() if context else "",
        "SpanName": span.name,
        "SpanKind": _KINDS[span.kind],
        "ServiceName": resource.get("service.name", ""),
        "ResourceAttributes": resource,
        "ScopeName": scope.name if scope else "",
        "ScopeVersion": (scope.version or "") if scope else "",
        "SpanAttributes": texts(span.attributes or {}),
        "Duration": max(0, (span.end_time or start) - start),
        "StatusCode": _STATUSES[span.status.status_code],
        "StatusMessage": span.status.description or "",
        **_events(span),
        **_links(span),
    }


def _events(span: ReadableSpan) -> dict[str, list[Any]]:
    return {
        "Events.Timestamp": [nanoseconds(event.timestamp) for event in span.events],
        "Events.Name": [event.name for event in span.events],
        "Events.Attributes": [texts(event.attributes or {}) for event in span.events],
    }


def _links(span: ReadableSpan) -> dict[str, list[Any]]:
    contexts = [link.context for link in span.links]
    return {
        "Links.TraceId": [f"{context.trace_id:032x}" for context in contexts],
        "Links.SpanId": [f"{context.span_id:016x}" for context in contexts],
        "Links.TraceState": [context.trace_state.to_header() for context in contexts],
        "Links.Attributes": [texts(link.attributes or {}) for link in span.links],
    }


def nanoseconds(moment: int) -> str:
    """Nanoseconds since 1970 as `seconds.nanoseconds`, which DateTime64(9) reads without loss."""
    return f"{moment // 1_000_000_000}.{moment % 1_000_000_000:09d}"


def texts(attributes: Mapping[str, Any]) -> dict[str, str]:
    """Attribute values as text, the way the collector does: bare text, lists as JSON, booleans in lower case."""
    return {
        name: value if isinstance(value, str) else _text(value)
        for name, value in attributes.items()
    }


def _text(value: Any) -> str:
    if isinstance(value, Sequence):
        return json.dumps(list(value), ensure_ascii=False)
    return json.dumps(value) if isinstance(value, bool | float) else str(value)


TIMEOUT_S = 5.0
FIRST_PAUSE_S = 0.25
LONGEST_PAUSE_S = 5.0
# A batch is given up after this long, so that old spans make room for new ones.
PATIENCE_S = 60.0
# The table is made by the migrations, which may still be running: worth waiting for.
_NO_TABLE, _NO_DATABASE = "60", "81"
_COLUMNS_QUERY = "INSERT INTO otel_traces FORMAT JSONEachRow"
_SETTINGS = {
    "input_format_skip_unknown_fields": "1",
    "date_time_input_format": "best_effort",
    "async_insert": "0",
}


class _Away(Exception):
    """ClickHouse can't take the spans now; try again."""


class _Refused(Exception):
    """ClickHouse looked at the spans and does not take them."""


class ClickHouseSpans(SpanExporter):
    """Inserts spans into `otel_traces` of the database in `url` (`http://user:password@host:8123/turnstile`).

    `pause` waits that many seconds and returns whether to stop; `chance` gives 0..1 for jitter. Both are arguments
    for tests.
    """

    def __init__(
        self,
        url: str,
        *,
        pause: Callable[[float], bool] | None = None,
        chance: Callable[[], float] = random.random,
    ) -> None:
        self._address = urlsplit(url)
        self._path = _target(self._address)
        self._headers = _headers(self._address)
        self._connection: http.client.HTTPConnection | None = None
        self._stopped = threading.Event()
        self._pause = pause or self._stopped.wait
        self._chance = chance

    def export(self, spans: Sequence[ReadableSpan]) -> SpanExportResult:
        """Insert the batch; returns after it is in, refused, out of patience or stopped."""
        body = json_rows(spans)
        # A loop of its own (see shared.retry): in a thread, bounded in time, cut short by `shutdown`.
        pause, waited, failures = FIRST_PAUSE_S, 0.0, 0
        while True:
            try:
                self._insert(body)
            except _Refused as error:
                return self._drop(len(spans), "refused", error)
            except _Away as error:
                failures += 1
                if failures == 3:
                    log.warning("span_archive_away", error=str(error))
                if waited >= PATIENCE_S or self._pause(pause * (0.5 + self._chance() / 2)):
                    return self._drop(len(spans), "away", error)
                waited += pause
                pause = min(pause * 2, LONGEST_PAUSE_S)
            else:
                metrics.inc("turnstile_spans_exported_total", len(spans))
                if failures >= 3:
                    log.info("span_archive_back", failures=failures)
                return SpanExportResult.SUCCESS

    def shutdown(self) -> None:
        """Stop waiting; a batch that is being tried gets no further try."""
        self._stopped.set()

    def _drop(self, count: int, reason: str, error: Exception) -> SpanExportResult:
        metrics.inc("turnstile_spans_dropped_total", count, reason=reason)
        log.warning("spans_dropped", spans=count, reason=reason, error=str(error))
        return SpanExportResult.FAILURE

    def _insert(self, body: bytes) -> None:
        """One request. Raises _Away or _Refused."""
        try:
            connection = self._connection or _connect(self._address)
            self._connection = connection
            connection.request("POST", self._path, body, self._headers)
            response = connection.getresponse()
            text = response.read(4096)
            response.read()
        except (OSError, http.client.HTTPException) as error:
            self._close()
            raise _Away(f"{type(error).__name__}: {error}") from error
        if response.status == 200:
            return
        self._close()
        words = f"HTTP {response.status}: {text[:300].decode(errors='replace')}"
        code = response.headers.get("X-ClickHouse-Exception-Code", "")
        if response.status >= 500 and code in ("", "202", "241", "159", "252", "319", "999"):
            raise _Away(words)
        if code in (_NO_TABLE, _NO_DATABASE) or response.status in (429, 503):
            raise _Away(words)
        raise _Refused(words)

    def _close(self) -> None:
        if self._connection is not None:
            self._connection.close()
            self._connection = None


def _connect(address: SplitResult) -> http.client.HTTPConnection:
    secure = address.scheme == "https"
    kind = http.client.HTTPSConnection if secure else http.client.HTTPConnection
    return kind(
        address.hostname or "127.0.0.1",
        address.port or (8443 if secure else 8123),
        timeout=TIMEOUT_S,
    )


def _target(address: SplitResult) -> str:
    database = address.path.strip("/") or "default"
    return "/?" + urlencode({"database": database, "query": _COLUMNS_QUERY, **_SETTINGS})


def _headers(address: SplitResult) -> dict[str, str]:
    pair = f"{unquote(address.username or 'default')}:{unquote(address.password or '')}"
    return {
        "Authorization": "Basic " + base64.b64encode(pair.encode()).decode(),
        "Content-Type": "application/octet-stream",
    }
