"""Deletes the rows of erased sessions, waits for the mutations, and then for the parts they lay in.

Works through the tombstones for ever; what it has done is noted in them, so that whoever comes after a crash goes
on there. It also looks now and then for rows that came in behind a tombstone: from a recorder that had stood still
with a batch in its hands, from a rebuild that was copying, from a backup that was brought back.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Collection
from dataclasses import replace
from functools import partial
from typing import TypeVar

from services.recorder.archive import in_thread
from services.recorder.tombstones import Key, Tombstone, Tombstones
from services.recorder.writer import Away
from shared import logs, metrics
from shared.clock import Clock

LOOK_S = 60.0
# While something is still on the disk, or ClickHouse is away.
AGAIN_S = 2.0
MUTATION_POLL_S = 0.2
T = TypeVar("T")
log = logs.get("recorder")


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
                log.warning("the eraser waits: ClickHouse", error=str(error))
                left = 1
            try:
                async with asyncio.timeout(AGAIN_S if left else self._look_seconds):
                    await self._news.wait()
            except TimeoutError:
                continue

    async def step(self) -> int:
        """Do what can be done now; answers how many tombstones wait for something. Raises Away."""
        tables = await threaded(self._tombstones.tables)
        opened = await threaded(self._tombstones.open)
        strays = await threaded(lambda: self._tombstones.strays(tables))
        fresh = {tombstone.key for tombstone in opened if tombstone.deleted_at is None}
        if fresh | strays:
            await self._delete(tables, fresh | strays)
            opened = await threaded(self._tombstones.open)
        left = await self._let_go(tables, opened)
        metrics.set_gauge("turnstile_erasures_open", left)
        return left

    async def _delete(self, tables: list[str], keys: Collection[Key]) -> None:
        """Delete until nothing is left; then note what was, and when."""
        # Begun before a crash, maybe: a second one for the same rows would only take time.
        await self._mutated()
        deleted: dict[Key, dict[str, int]] = {}
        while found := await threaded(lambda: self._tombstones.count(tables, keys)):
            _add(deleted, found)
            hit = {table for rows in found.values() for table in rows}
            await threaded(partial(self._tombstones.delete, hit, keys))
            await self._mutated()
        known = await threaded(lambda: self._tombstones.of(keys))
        done = [_deleted(tombstone, deleted, self._clock) for tombstone in known]
        await threaded(lambda: self._tombstones.put(done))
        rows = sum(sum(counts.values()) for counts in deleted.values())
        log.info("erased sessions deleted", sessions=len(done), rows=rows)

    async def _mutated(self) -> None:
        """Wait until no mutation is under way, however long that takes; one outlives a restart of ClickHouse."""
        looks = 0
        while await threaded(self._tombstones.deleting):
            looks += 1
            if looks % 150 == 0:
                log.warning("a mutation takes long", seconds=round(looks * MUTATION_POLL_S))
            await asyncio.sleep(MUTATION_POLL_S)

    async def _let_go(self, tables: list[str], opened: Collection[Tombstone]) -> int:
        """Note those of which no part is left; answers how many others there are."""
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
            log.info("erased sessions gone", sessions=len(gone))
        if len(waiting) > len(gone) and oldest is not None:
            age = self._clock().timestamp() - oldest
            await threaded(lambda: self._tombstones.tidy(tables, age))
        return len(waiting) - len(gone)


async def threaded(work: Callable[[], T]) -> T:
    """Blocking work in a thread of its own."""
    found: list[T] = []
    await in_thread(lambda: found.append(work()))
    return found[0]


def _add(sums: dict[Key, dict[str, int]], found: dict[Key, dict[str, int]]) -> None:
    for key, rows in found.items():
        mine = sums.setdefault(key, {})
        for table, count in rows.items():
            mine[table] = mine.get(table, 0) + count


def _deleted(tombstone: Tombstone, deleted: dict[Key, dict[str, int]], clock: Clock) -> Tombstone:
    rows = dict(tombstone.rows or {})
    for table, count in deleted.get(tombstone.key, {}).items():
        rows[table] = rows.get(table, 0) + count
    return replace(tombstone, deleted_at=clock(), gone_at=None, rows=rows)
