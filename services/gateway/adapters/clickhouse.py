"""The archive through clickhouse-connect: named queries, run in threads so that the loop never waits.

The client's own async variant needs a second HTTP library; its calls are few and pages are large, so a
handful of threads serve as well.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from threading import Lock
from typing import Any, TypeVar

import clickhouse_connect
import msgspec
from clickhouse_connect.driver.client import Client
from msgspec import Raw, Struct

from services.gateway.ports import Entry, SessionKey
from shared import logs, telemetry
from shared.errors import Transient
from shared.session.events import Event
from shared.telemetry import SpanKind

QUERIES = Path(__file__).resolve().parents[3] / "infra" / "clickhouse" / "queries"
THREADS = 8
SECONDS = 10
MAX_PAGE_BYTES = 8 * 1024 * 1024
_T = TypeVar("_T")
_log = logs.get("gateway.clickhouse")


class _Row(Struct, array_like=True, frozen=True):
    """One row of `gateway_events_page.sql`, in its order."""

    seq: int
    event_id: str
    type: str
    turn_id: str | None
    at: str
    user_id: str
    thread_id: str | None
    model: str | None
    trace_id: str
    data: str


_rows = msgspec.json.Decoder(_Row)
_encode = msgspec.json.Encoder().encode


class ClickHouseArchive:
    """Connects at the first call and again after a failure; `stop` ends the threads."""

    def __init__(self, url: str) -> None:
        self._url = url
        self._page_sql = (QUERIES / "gateway_events_page.sql").read_text()
        self._threads = ThreadPoolExecutor(THREADS, thread_name_prefix="clickhouse")
        self._client: Client | None = None
        self._lock = Lock()

    async def page(self, key: SessionKey, after: int, limit: int) -> Sequence[Entry]:
        parameters = {
            "tenant_id": key[0],
            "session_id": key[1],
            "after": after,
            "limit": limit,
            "max_bytes": MAX_PAGE_BYTES,
        }
        attributes = {"db.system.name": "clickhouse", "db.collection.name": "events"}
        with telemetry.span("SELECT events", kind=SpanKind.CLIENT, attributes=attributes) as span:
            entries = await self._run(partial(self._page, key, parameters))
            span.set_attribute("db.response.returned_rows", len(entries))
        return entries

    async def check(self) -> None:
        await self._run(lambda: self._connected().command("SELECT 1"))

    async def stop(self) -> None:
        """Close the connections; calls under way are left to end by their own timeout."""
        self._threads.shutdown(wait=False, cancel_futures=True)
        if self._client is not None:
            self._client.close()

    def _page(self, key: SessionKey, parameters: dict[str, Any]) -> list[Entry]:
        raw = self._connected().raw_query(
            self._page_sql, parameters, settings={"output_format_json_quote_64bit_integers": 0}
        )
        return [_entry(key, row) for row in _rows.decode_lines(raw)]

    def _connected(self) -> Client:
        with self._lock:
            if self._client is None:
                self._client = clickhouse_connect.get_client(
                    dsn=self._url,
                    connect_timeout=2,
                    send_receive_timeout=SECONDS,
                    query_retries=0,
                    autogenerate_session_id=False,
                )
            return self._client

    async def _run(self, work: Callable[[], _T]) -> _T:
        loop = asyncio.get_running_loop()
        try:
            async with asyncio.timeout(SECONDS + 2):
                return await loop.run_in_executor(self._threads, work)
        except Exception as error:
            # Its own words may quote the URL or the query: the type is enough for a client.
            _log.warning("the archive did not answer", error=type(error).__name__)
            raise Transient(
                "archive_unavailable",
                f"the archive did not answer ({type(error).__name__}): try again",
                retry_after=2,
            ) from error


def _entry(key: SessionKey, row: _Row) -> Entry:
    """The event as it was on the log, byte for byte."""
    at = row.at.replace(" ", "T") + "Z"
    event = Event(
        tenant_id=key[0],
        session_id=key[1],
        seq=row.seq,
        event_id=row.event_id,
        type=row.type,
        turn_id=row.turn_id or None,
        at=at,
        user_id=row.user_id,
        thread_id=row.thread_id or None,
        model=row.model or None,
        trace_id=row.trace_id,
        data=Raw(row.data.encode()),
    )
    return Entry(row.seq, row.type, at, _encode(event))
