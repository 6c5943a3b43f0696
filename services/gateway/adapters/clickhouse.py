"""The archive through clickhouse-connect: named queries, run in threads so that the loop never waits.

The client's own async variant needs a second HTTP library; its calls are few and answers are large, so a
handful of threads serve as well.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncGenerator, Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from threading import Lock
from typing import Any, TypeVar

import clickhouse_connect
import msgspec
from clickhouse_connect.driver.client import Client

from services.gateway.adapters import clickhouse_stretches
from services.gateway.adapters.clickhouse_stretches import Stretches
from services.gateway.ports import Entry, Stretch
from shared import archive_page, logs, telemetry
from shared.costs import CostRow, Wanted, question, rows
from shared.errors import Transient
from shared.session.events import Event
from shared.session.key import SessionKey
from shared.telemetry import SpanKind

SECONDS = 10
# So many queries bring streams their events at once; others wait. None lasts longer than QUERY_SECONDS, and none
# that is not read for LENT_SECONDS goes on.
QUERIES = 8
QUERY_SECONDS, LENT_SECONDS = 10.0, 1.0
THREADS = 8 + QUERIES
ATTRIBUTES = {"db.system.name": "clickhouse", "db.collection.name": "events"}
_T = TypeVar("_T")
_log = logs.get("gateway.clickhouse")


_encode = msgspec.json.Encoder().encode


class _Query:
    """A query that runs, and its place among QUERIES until it is closed."""

    def __init__(self, stretches: Stretches, free: Callable[[], None]) -> None:
        self.stretches = stretches
        self._free: Callable[[], None] | None = free
        self._loop = asyncio.get_running_loop()
        self._until = self._loop.time() + QUERY_SECONDS

    @contextlib.contextmanager
    def lent(self) -> Iterator[None]:
        """While somebody has a stretch that was read. Whoever keeps it longer than LENT_SECONDS holds no query."""
        waiting = self._loop.call_later(LENT_SECONDS, self.close)
        try:
            yield
        finally:
            waiting.cancel()
            if self._loop.time() > self._until:
                self.close()

    def close(self) -> None:
        """End it and free its place; a second call does nothing."""
        self.stretches.close()
        free, self._free = self._free, None
        if free is not None:
            free()


class ClickHouseEventArchive:
    """Connects at the first call and again after a failure; `stop` ends the threads."""

    def __init__(self, url: str) -> None:
        self._url = url
        self._threads = ThreadPoolExecutor(THREADS, thread_name_prefix="clickhouse")
        self._places = asyncio.Semaphore(QUERIES)
        self._client: Client | None = None
        self._lock = Lock()

    async def page(self, key: SessionKey, after: int, limit: int) -> Sequence[Entry]:
        parameters = archive_page.parameters(*key, after, limit)
        with telemetry.span("SELECT events", kind=SpanKind.CLIENT, attributes=ATTRIBUTES) as span:
            entries = await self._run(partial(self._page, key, parameters))
            span.set_attribute("db.response.returned_rows", len(entries))
        return entries

    async def stretches(
        self, key: SessionKey, after: int, until: int
    ) -> AsyncGenerator[Stretch, None]:
        """See EventArchive.stretches. One query; where it lasts long or is not read for a while another goes on."""
        while after < until:
            query = await self._query(key, after, until)
            try:
                while (stretch := await self._run(query.stretches.next)) is not None:
                    after = stretch.seq
                    with query.lent():
                        yield stretch
                    if query.stretches.closed:
                        break
                else:
                    return
            finally:
                query.close()

    async def costs(self, wanted: Wanted) -> Sequence[CostRow]:
        """See CostArchive.costs."""
        statement, parameters = question(wanted)
        about = {**ATTRIBUTES, "db.collection.name": "cost_facts"}
        with telemetry.span("SELECT cost_facts", kind=SpanKind.CLIENT, attributes=about):
            return await self._run(lambda: rows(wanted, self._ask(statement, parameters)))

    def _ask(self, statement: str, parameters: dict[str, Any]) -> Sequence[Sequence[Any]]:
        return self._connected().query(statement, parameters=parameters).result_rows

    async def check(self) -> None:
        await self._run(lambda: self._connected().command("SELECT 1"))

    async def stop(self) -> None:
        """Close the connections; calls under way are left to end by their own timeout."""
        self._threads.shutdown(wait=False, cancel_futures=True)
        if self._client is not None:
            self._client.close()

    async def _query(self, key: SessionKey, after: int, until: int) -> _Query:
        """A query with a place among QUERIES. Raises Transient when none is free in time."""
        try:
            async with asyncio.timeout(SECONDS):
                await self._places.acquire()
        except TimeoutError as error:
            raise _away(error) from error
        parameters = clickhouse_stretches.parameters(key, after, until)
        return _Query(Stretches(partial(self._stream, parameters), after), self._places.release)

    def _stream(self, parameters: dict[str, Any]) -> Any:
        return self._connected().raw_stream(
            clickhouse_stretches.QUERY, parameters, settings=clickhouse_stretches.SETTINGS
        )

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
            raise _away(error) from error


def _entry(event: Event) -> Entry:
    """The event as it was on the log, byte for byte."""
    return Entry(event.seq, event.type, event.at, _encode(event))


def _away(error: Exception) -> Transient:
    """Its own words may quote the URL or the query: the type is enough for a client."""
    name = type(error).__name__
    _log.warning("archive_away", error=name)
    words = f"the archive did not answer ({name}): try again"
    return Transient("archive_unavailable", words, retry_after=2)
