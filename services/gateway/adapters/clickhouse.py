"""The archive through clickhouse-connect: named queries, run in threads so that the loop never waits.

The client's own async variant needs a second HTTP library; its calls are few and pages are large, so a
handful of threads serve as well.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from threading import Lock
from typing import Any, TypeVar

import clickhouse_connect
import msgspec
from clickhouse_connect.driver.client import Client

from services.gateway.ports import Entry
from shared import archive_page, logs, telemetry
from shared.errors import Transient
from shared.session.events import Event
from shared.session.key import SessionKey
from shared.telemetry import SpanKind

THREADS = 8
SECONDS = 10
_T = TypeVar("_T")
_log = logs.get("gateway.clickhouse")


_encode = msgspec.json.Encoder().encode


class ClickHouseEventArchive:
    """Connects at the first call and again after a failure; `stop` ends the threads."""

    def __init__(self, url: str) -> None:
        self._url = url
        self._threads = ThreadPoolExecutor(THREADS, thread_name_prefix="clickhouse")
        self._client: Client | None = None
        self._lock = Lock()

    async def page(self, key: SessionKey, after: int, limit: int) -> Sequence[Entry]:
        parameters = archive_page.parameters(*key, after, limit)
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
            archive_page.QUERY, parameters, settings=archive_page.SETTINGS
        )
        return [_entry(event) for event in archive_page.events(*key, raw)]

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
            _log.warning("archive_away", error=type(error).__name__)
            raise Transient(
                "archive_unavailable",
                f"the archive did not answer ({type(error).__name__}): try again",
                retry_after=2,
            ) from error


def _entry(event: Event) -> Entry:
    """The event as it was on the log, byte for byte."""
    return Entry(event.seq, event.type, event.at, _encode(event))
