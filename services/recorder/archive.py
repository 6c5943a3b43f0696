"""Brings batches into the archive: with patience while ClickHouse is away, by halves when it refuses."""

from __future__ import annotations

import asyncio
import contextlib
import threading
from collections import Counter
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from datetime import datetime
from operator import itemgetter
from typing import Any, TypeVar

import clickhouse_connect
from clickhouse_connect.driver.client import Client
from clickhouse_connect.driver.exceptions import ClickHouseError

from services.recorder.kafka import GROUP, TOPIC
from services.recorder.ports import ArchiveWriter, BadRecord, Record
from services.recorder.rows import Batch, body, is_ours
from shared import logs, metrics, telemetry
from shared.archive_insert import SETTINGS, TABLE
from shared.bus.brake import Brake
from shared.logs import Flood
from shared.retry import patiently
from shared.telemetry import Attributes, Span, SpanKind


def batch_span(batch: Batch) -> AbstractContextManager[Span]:
    """Around everything that happens to a batch; linked to traces in it, a child of none."""
    return telemetry.span(
        "process turnstile.events.v1",
        kind=SpanKind.CONSUMER,
        links=[*batch.ends, *batch.links][:64],
        attributes={
            "messaging.system": "kafka",
            "messaging.operation.name": "process",
            "messaging.destination.name": TOPIC,
            "messaging.consumer.group.name": GROUP,
            "messaging.batch.message_count": batch.count,
        },
    )


def insert_span(batch: Batch) -> AbstractContextManager[Span]:
    """Around the insert itself, below the batch's span."""
    return telemetry.span(
        "INSERT session_events", kind=SpanKind.CLIENT, attributes=_attributes(batch)
    )


def archived(batch: Batch, start: datetime, end: datetime) -> None:
    """The insert once more in the trace of each turn in `batch.ends`, linked to the batch's own."""
    here, attributes = telemetry.traceparent(), _attributes(batch)
    for parent in batch.ends:
        telemetry.record(
            "INSERT session_events",
            parent=parent,
            start=start,
            end=end,
            kind=SpanKind.CLIENT,
            attributes=attributes,
            links=[here],
        )


def _attributes(batch: Batch) -> Attributes:
    return {
        "db.system.name": "clickhouse",
        "db.operation.name": "INSERT",
        "db.collection.name": TABLE,
        "db.operation.batch.size": len(batch.rows),
    }


CONNECT_TIMEOUT_S = 5

# Codes with which ClickHouse says that it does not like the data: trying again changes nothing.
REFUSALS = frozenset(
    {
        6,  # CANNOT_PARSE_TEXT
        25,  # CANNOT_PARSE_ESCAPE_SEQUENCE
        26,  # CANNOT_PARSE_QUOTED_STRING
        27,  # CANNOT_PARSE_INPUT_ASSERTION_FAILED
        33,  # CANNOT_READ_ALL_DATA
        38,  # CANNOT_PARSE_DATE
        41,  # CANNOT_PARSE_DATETIME
        43,  # ILLEGAL_TYPE_OF_ARGUMENT
        53,  # TYPE_MISMATCH
        69,  # ARGUMENT_OUT_OF_BOUND
        70,  # CANNOT_CONVERT_TYPE
        72,  # CANNOT_PARSE_NUMBER
        117,  # INCORRECT_DATA
        130,  # CANNOT_READ_ARRAY_FROM_TEXT
        131,  # TOO_LARGE_STRING_SIZE
        306,  # TOO_DEEP_RECURSION
        321,  # VALUE_IS_OUT_OF_RANGE_OF_DATA_TYPE
        349,  # CANNOT_INSERT_NULL_IN_ORDINARY_COLUMN
        407,  # DECIMAL_OVERFLOW
        467,  # CANNOT_PARSE_BOOL
        469,  # VIOLATED_CONSTRAINT
    }
)


class Refused(Exception):
    """ClickHouse looked at the rows and does not take them: one of them, at least, is bad."""

    def __init__(self, code: int, detail: str) -> None:
        super().__init__(detail)
        self.code = code


class Away(Exception):
    """The rows are not in, for a reason that is not theirs. The message has no row's content."""


class ClickHouseWriter:
    """Inserts into `session_events` of the database in `url` (`http://user:password@host:8123/turnstile`).

    Several threads may insert at once. `timeout` is in seconds, for one insert.
    """

    def __init__(self, url: str, *, timeout: float) -> None:
        self._url = url
        self._timeout = timeout
        self._client: Client | None = None
        self._connecting = threading.Lock()

    def insert(self, body: bytes) -> None:
        """Insert a JSONEachRow body; when this returns, the rows are there.

        Raises Refused or Away. Away says nothing about whether they are in: try again.
        """
        # Bytes would be copied behind the statement; a view of them is sent as it is, and again when it must be.
        block: Any = memoryview(body)
        try:
            self._connected().raw_insert(
                TABLE, insert_block=block, fmt="JSONEachRow", settings=dict(SETTINGS)
            )
        except (ClickHouseError, OSError) as error:
            raise _judged(error) from error

    def ping(self) -> None:
        """Raises Away when ClickHouse does not answer."""
        try:
            if not self._connected().ping():
                raise Away("ClickHouse does not answer /ping")
        except (ClickHouseError, OSError) as error:
            raise _judged(error) from error

    def close(self) -> None:
        """Give the connections back; an insert afterwards opens new ones."""
        client, self._client = self._client, None
        if client is not None:
            with contextlib.suppress(Exception):
                client.close()

    def _connected(self) -> Client:
        with self._connecting:
            if self._client is None:
                options: dict[str, Any] = {
                    "dsn": self._url,
                    "connect_timeout": CONNECT_TIMEOUT_S,
                    "send_receive_timeout": max(1, round(self._timeout)),
                    # A session would let one request run at a time, and we need nothing that lives in one.
                    "autogenerate_session_id": False,
                    "query_retries": 0,
                    "compress": False,
                }
                self._client = clickhouse_connect.get_client(**options)
            return self._client


def _judged(error: Exception) -> Refused | Away:
    code = getattr(error, "code", None)
    if code in REFUSALS:
        return Refused(code, str(error))
    name = getattr(error, "name", None) or type(error).__name__
    # The words of a failure of the network name the address only; those of an exception may quote the data.
    return Away(f"code {code} ({name})" if code else f"{name}: {str(error)[:200]}")


FIRST_PAUSE_S = 0.2
# One process asks, for one batch: an archive that comes back need not wait longer to be used.
LONGEST_PAUSE_S = 0.5
# Less than so many times the rows of an insert are not worth two: each plans the queries of all views.
SPLIT = 1.6
# Refused rows that are told one by one, in ten seconds.
TOLD_EACH = 20
T = TypeVar("T")

log = logs.get("recorder")


class ArchiveSink:
    """Inserts rows, trying again until they are in or refused. `chance` gives 0..1 for jitter, `clock` seconds.

    When there are rows for nearly two inserts of `most`, they go in two at once, whose partitions differ: of one
    session no row is in before an earlier one.
    """

    def __init__(
        self,
        writer: ArchiveWriter,
        brake: Brake,
        *,
        chance: Callable[[], float],
        clock: Callable[[], float],
        most: int,
    ) -> None:
        self._writer = writer
        self._brake = brake
        self._most = most
        self._chance = chance
        self._clock = clock
        self._flood = Flood(TOLD_EACH)

    async def bring_in(self, rows: Sequence[Record]) -> list[BadRecord]:
        """Insert all rows but those that ClickHouse refuses one by one; these are returned.

        Returns when everything else is in. Raises Braked when too many of our own are refused; what was inserted by
        then is in, and a repeat of it is harmless.
        """
        shares = halves(rows) if len(rows) > SPLIT * self._most else [rows]
        works = [asyncio.create_task(self._bring_in(share)) for share in shares if share]
        try:
            if works:
                await asyncio.wait(works, return_when=asyncio.FIRST_EXCEPTION)
            return [bad for work in _failed_first(works) for bad in work.result()]
        finally:
            for work in works:
                work.cancel()

    async def _bring_in(self, rows: Sequence[Record]) -> list[BadRecord]:
        """One share of a batch; see `bring_in`."""
        refused: list[BadRecord] = []
        parts = [rows]
        while parts:
            part = parts.pop()
            try:
                await self._insert(part)
            except Refused as error:
                if len(part) > 1:
                    middle = len(part) // 2
                    parts += [part[middle:], part[:middle]]
                    continue
                refused.append(BadRecord(part[0], "refused_by_clickhouse", str(error)))
                if self._flood.passes(error.code) is not None:
                    log.warning("row_refused", code=error.code)
                if is_ours(part[0]):
                    self._brake.bad()
            else:
                self._brake.good(len(part))
        return refused

    async def _insert(self, rows: Sequence[Record]) -> None:
        """One part, tried until it is in or refused."""
        text, failures = body(rows), 0

        async def insert() -> None:
            """One try; counts rows and seconds, or the failure. Raises Refused or Away."""
            nonlocal failures
            began = self._clock()
            try:
                await in_thread(lambda: self._writer.insert(text))
            except Refused:
                metrics.inc("turnstile_insert_failures_total", table=TABLE, kind="refused")
                raise
            except Away:
                failures += 1
                metrics.inc("turnstile_insert_failures_total", table=TABLE, kind="away")
                raise
            self._count(len(rows), self._clock() - began)

        await patiently(
            insert,
            on=Away,
            first=FIRST_PAUSE_S,
            longest=LONGEST_PAUSE_S,
            say=_not_taken,
            chance=self._chance,
        )
        if failures:
            log.info("archive_back", failures=failures)

    def _count(self, rows: int, seconds: float) -> None:
        metrics.inc("turnstile_rows_inserted_total", rows, table=TABLE)
        metrics.observe("turnstile_batch_rows", rows, table=TABLE)
        metrics.observe("turnstile_insert_seconds", seconds, table=TABLE)


def halves(rows: Sequence[Record]) -> list[list[Record]]:
    """The rows in two shares of about the same size, in their order; no partition is in both."""
    shares: list[tuple[int, set[int]]] = [(0, set()), (0, set())]
    for partition, count in Counter(row.partition for row in rows).most_common():
        # The smaller one, which is kept first.
        size, own = shares[0]
        shares = sorted([(size + count, own | {partition}), shares[1]], key=itemgetter(0))
    return [[row for row in rows if row.partition in own] for _, own in shares]


def _failed_first(works: list[asyncio.Task[T]]) -> list[asyncio.Task[T]]:
    """The one that failed, if one did: another may not be done."""
    return [work for work in works if work.done() and work.exception()] or works


def _not_taken(failures: int, error: Exception) -> None:
    log.warning("archive_away", failures=failures, error=str(error))


async def in_thread(work: Callable[[], None]) -> None:
    """Run blocking work in a thread of its own and wait for it.

    A daemon thread, not a pool's: an insert that hangs must not keep a process alive that was told to stop.
    """
    loop = asyncio.get_running_loop()
    done: asyncio.Future[None] = loop.create_future()

    def settle(error: BaseException | None) -> None:
        if done.done():
            return
        if error is None:
            done.set_result(None)
        else:
            done.set_exception(error)

    def run() -> None:
        """Do the work in this thread and settle the future in its loop; nothing is raised here."""
        error: BaseException | None = None
        try:
            work()
        except BaseException as caught:
            error = caught
        try:
            loop.call_soon_threadsafe(settle, error)
        except RuntimeError:
            # The loop is closed: nobody waits for the outcome any more.
            return

    threading.Thread(target=run, name="recorder-insert", daemon=True).start()
    await done
