"""Exports spans to ClickHouse when there is no collector: as JSONEachRow over its HTTP interface.

Runs in the exporting thread only. While ClickHouse is away a batch is tried again with growing pauses and the
queue behind it fills up; what ClickHouse refuses is dropped and counted.
"""

from __future__ import annotations

import base64
import http.client
import random
import threading
from collections.abc import Callable, Sequence
from urllib.parse import SplitResult, unquote, urlencode, urlsplit

from opentelemetry.sdk.trace import ReadableSpan
from opentelemetry.sdk.trace.export import SpanExporter, SpanExportResult

from shared import logs, metrics
from shared.span_rows import json_rows

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

log = logs.get("telemetry")


class _Away(Exception):
    """ClickHouse can't take the spans now; try again."""


class _Refused(Exception):
    """ClickHouse looked at the spans and said no."""


class ClickHouseSpans(SpanExporter):
    """Inserts spans into `otel_traces` of the database in `url` (`http://user:password@host:8123/turnstile`).

    `pause` waits and says whether to stop; `chance` gives 0..1 for jitter. Both are arguments for tests.
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
                    log.warning("spans wait: ClickHouse does not take them", error=str(error))
                if waited >= PATIENCE_S or self._pause(pause * (0.5 + self._chance() / 2)):
                    return self._drop(len(spans), "away", error)
                waited += pause
                pause = min(pause * 2, LONGEST_PAUSE_S)
            else:
                metrics.inc("turnstile_spans_exported_total", len(spans))
                if failures >= 3:
                    log.info("spans are taken again", failures=failures)
                return SpanExportResult.SUCCESS

    def shutdown(self) -> None:
        """Stop waiting; a batch that is being tried gets no further try."""
        self._stopped.set()

    def _drop(self, count: int, reason: str, error: Exception) -> SpanExportResult:
        metrics.inc("turnstile_spans_dropped_total", count, reason=reason)
        log.warning("spans dropped", spans=count, reason=reason, error=str(error))
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
