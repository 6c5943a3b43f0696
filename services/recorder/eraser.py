"""Deletes the rows of erased sessions, waits for the mutations, and then for the parts they lay in.

Works through the tombstones for ever; what it has done is noted in them, so that whoever comes after a crash goes
on there. It also looks now and then for rows that came in behind a tombstone: from a recorder that had stood still
with a batch in its hands, from a rebuild that was copying, from a backup that was brought back.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Collection, Sequence
from dataclasses import replace
from datetime import datetime
from functools import partial
from typing import TypeVar

from aiokafka.errors import KafkaError

from services.recorder.archive import ArchiveSink, Away, in_thread
from services.recorder.ports import BadRecord, GoodRecord, KafkaProducer, Record
from services.recorder.rows import Row, read_row
from services.recorder.tombstones import Tombstone, Tombstones
from shared import logs, metrics
from shared.bus.envelope import erasure_mark
from shared.bus.topics import DEAD
from shared.clock import Clock
from shared.errors import Corrupt
from shared.moment import rfc3339
from shared.retry import patiently
from shared.session.key import SessionKey

RETRY_S = 1.0
# What another recorder noted is never known later than so, and read with so much of an overlap: its clock differs.
REFRESH_S = 1.0
OVERLAP_S = 300.0
T = TypeVar("T")
log = logs.get("recorder")


class Erasing:
    """In front of an Archive. `news` is called when sessions were noted; `now` gives seconds that only grow."""

    def __init__(
        self,
        archive: ArchiveSink,
        tombstones: Tombstones,
        out: KafkaProducer,
        *,
        clock: Clock,
        now: Callable[[], float],
        news: Callable[[], None],
    ) -> None:
        self._archive = archive
        self._tombstones = tombstones
        self._out = out
        self._clock = clock
        self._now = now
        self._news = news
        self._known: set[SessionKey] = set()
        self._ids: set[bytes] = set()
        self._seen_to = 0.0
        self._refreshed = float("-inf")

    async def bring_in(self, rows: Sequence[GoodRecord]) -> list[BadRecord]:
        """See RowSink.bring_in. Waits for as long as ClickHouse or Kafka is away."""
        await self._refresh(REFRESH_S)
        if asked := self._asked(rows):
            await self._note(asked)
        kept = [record for record in rows if not self._is_erased(record)] if self._ids else rows
        if len(kept) < len(rows):
            log.info("erased_rows_left_out", rows=len(rows) - len(kept))
        # Beside the insert, so that the next one need not wait for it.
        refreshing = asyncio.create_task(self._refresh(REFRESH_S / 2))
        try:
            refused = await self._archive.bring_in(kept)
            await refreshing
        finally:
            refreshing.cancel()
        return refused

    async def _refresh(self, age: float) -> None:
        """Learn what others noted, unless that was done less than `age` seconds ago: this process may have taken
        over their partition."""
        if self._now() < self._refreshed + age:
            return
        since = self._seen_to - OVERLAP_S if self._seen_to else 0.0
        found, latest = await _written(lambda: self._tombstones.since(since))
        self._know(found)
        self._seen_to, self._refreshed = latest, self._now()

    def _asked(self, rows: Sequence[GoodRecord]) -> dict[SessionKey, datetime]:
        """Sessions that the batch says are erased and nobody noted yet."""
        asked: dict[SessionKey, datetime] = {}
        for row in filter(None, [_read(record) for record in rows if record.erases]):
            if _key(row) not in self._known:
                asked.setdefault(_key(row), row.at)
        return asked

    async def _note(self, asked: dict[SessionKey, datetime]) -> None:
        # First the marks: whoever finds a tombstone, after a crash too, takes the session's letters for marked.
        for key in asked:
            await self._mark_letters(key)
        now = self._clock()
        tombstones = [Tombstone(key, at, now) for key, at in asked.items()]
        await _written(lambda: self._tombstones.put(tombstones))
        self._know(asked)
        log.info("erasures_noted", sessions=len(asked))
        self._news()

    async def _mark_letters(self, key: SessionKey) -> None:
        """Mark the dead letters of this session as erased, however long Kafka is away."""
        tenant, session = key
        headers = erasure_mark(tenant, rfc3339(self._clock()))

        async def mark() -> None:
            await self._out.send_and_wait(
                DEAD.name, value=None, key=session.encode(), headers=headers
            )

        def say(failures: int, error: Exception) -> None:
            name = type(error).__name__
            log.warning("erasure_mark_waits", failures=failures, error=name)

        await patiently(mark, on=KafkaError, first=RETRY_S, longest=RETRY_S, say=say)

    def _know(self, keys: Collection[SessionKey]) -> None:
        self._known.update(keys)
        self._ids.update(session.encode() for _, session in keys)

    def _is_erased(self, record: Record) -> bool:
        """Whether the record's session is erased. Its JSON is parsed only where its key is the id of an erased
        session, or it has none."""
        if record.key not in self._ids and (record.key or b"") != b"":
            return False
        row = _read(record)
        return row is not None and _key(row) in self._known


async def _written(work: Callable[[], T]) -> T:
    """Do blocking work in a thread, again and again while ClickHouse is away."""

    def say(failures: int, error: Exception) -> None:
        log.warning("erasures_not_noted", failures=failures, error=str(error))

    return await patiently(lambda: threaded(work), on=Away, first=RETRY_S, longest=RETRY_S, say=say)


def _key(row: Row) -> SessionKey:
    return (row.tenant_id, row.session_id)


def _read(record: Record) -> Row | None:
    try:
        return read_row(record.value)
    except Corrupt:
        return None


LOOK_S = 60.0
# While something is still on the disk, or ClickHouse is away.
AGAIN_S = 2.0
MUTATION_POLL_S = 0.2


class Eraser:
    """Deletes what `tombstones` name. `poke` when there are new ones."""

    def __init__(self, tombstones: Tombstones, clock: Clock, look_seconds: float = LOOK_S) -> None:
        self._tombstones = tombstones
        self._clock = clock
        self._look_seconds = look_seconds
        self._news = asyncio.Event()

    def poke(self) -> None:
        """There are new tombstones."""
        self._news.set()

    async def run(self) -> None:
        """Erase until cancelled. While ClickHouse is away it waits."""
        while True:
            self._news.clear()
            try:
                left = await self.step()
            except Away as error:
                log.warning("eraser_waits", error=str(error))
                left = 1
            try:
                async with asyncio.timeout(AGAIN_S if left else self._look_seconds):
                    await self._news.wait()
            except TimeoutError:
                continue

    async def step(self) -> int:
        """Do what can be done now; returns how many tombstones wait for something. Raises Away."""
        tables = await threaded(self._tombstones.tables)
        opened = await threaded(self._tombstones.open)
        undeleted = await threaded(lambda: self._tombstones.undeleted(tables))
        fresh = {tombstone.key for tombstone in opened if tombstone.deleted_at is None}
        if fresh | undeleted:
            await self._delete(tables, fresh | undeleted)
            opened = await threaded(self._tombstones.open)
        left = await self._let_go(tables, opened)
        metrics.set_gauge("turnstile_erasures_open", left)
        return left

    async def _delete(self, tables: list[str], keys: Collection[SessionKey]) -> None:
        """Delete until nothing is left; then note what was, and when."""
        # Begun before a crash, maybe: a second one for the same rows would only take time.
        await self._mutated()
        deleted: dict[SessionKey, dict[str, int]] = {}
        while found := await threaded(lambda: self._tombstones.count(tables, keys)):
            _add(deleted, found)
            hit = {table for rows in found.values() for table in rows}
            await threaded(partial(self._tombstones.delete, hit, keys))
            await self._mutated()
        known = await threaded(lambda: self._tombstones.of(keys))
        done = [_deleted(tombstone, deleted, self._clock) for tombstone in known]
        await threaded(lambda: self._tombstones.put(done))
        rows = sum(sum(counts.values()) for counts in deleted.values())
        log.info("erased_sessions_deleted", sessions=len(done), rows=rows)

    async def _mutated(self) -> None:
        """Wait until no mutation is under way, however long that takes; one outlives a restart of ClickHouse."""
        looks = 0
        while await threaded(self._tombstones.deleting):
            looks += 1
            if looks % 150 == 0:
                log.warning("mutation_takes_long", seconds=round(looks * MUTATION_POLL_S))
            await asyncio.sleep(MUTATION_POLL_S)

    async def _let_go(self, tables: list[str], opened: Collection[Tombstone]) -> int:
        """Note those of which no part is left; returns how many others there are."""
        oldest = await threaded(lambda: self._tombstones.oldest_part(tables))
        waiting = [tombstone for tombstone in opened if tombstone.gone_at is None]
        gone = [
            tombstone
            for tombstone in waiting
            if tombstone.deleted_at is not None
            and (oldest is None or oldest > tombstone.deleted_at.timestamp())
        ]
        if gone:
            now = self._clock()
            noted = [replace(tombstone, gone_at=now) for tombstone in gone]
            await threaded(lambda: self._tombstones.put(noted))
            log.info("erased_sessions_gone", sessions=len(gone))
        if len(waiting) > len(gone) and oldest is not None:
            age = self._clock().timestamp() - oldest
            await threaded(lambda: self._tombstones.tidy(tables, age))
        return len(waiting) - len(gone)


async def threaded(work: Callable[[], T]) -> T:
    """Blocking work in a thread of its own."""
    found: list[T] = []
    await in_thread(lambda: found.append(work()))
    return found[0]


def _add(sums: dict[SessionKey, dict[str, int]], found: dict[SessionKey, dict[str, int]]) -> None:
    for key, rows in found.items():
        mine = sums.setdefault(key, {})
        for table, count in rows.items():
            mine[table] = mine.get(table, 0) + count


def _deleted(
    tombstone: Tombstone, deleted: dict[SessionKey, dict[str, int]], clock: Clock
) -> Tombstone:
    rows = dict(tombstone.rows or {})
    for table, count in deleted.get(tombstone.key, {}).items():
        rows[table] = rows.get(table, 0) + count
    return replace(tombstone, deleted_at=clock(), gone_at=None, rows=rows)
