"""Keeps rows of erased sessions out: the erased are noted first, then the rest of the batch goes its way.

`session.erased` is how the recorder hears of it. The tombstone is in ClickHouse, and the dead letters are marked,
before the batch's offsets are committed: a crash in between hears of it again. Whatever rows there are already are
the eraser's to delete (`eraser.py`).
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Collection, Sequence
from datetime import datetime
from typing import TypeVar

from aiokafka.errors import KafkaError

from services.recorder.archive import Archive, in_thread
from services.recorder.batch import Letter
from services.recorder.ports import Out, Record
from services.recorder.rows import Row, read_row
from services.recorder.tombstones import Key, Tombstone, Tombstones
from services.recorder.writer import Away
from shared import logs
from shared.bus.envelope import erasure_mark
from shared.bus.topics import DEAD
from shared.clock import Clock
from shared.errors import Corrupt
from shared.moment import rfc3339

ERASED = "session.erased"
_WORD = ERASED.encode()
RETRY_S = 1.0
# What another recorder noted is read again so often at most, and with so much of an overlap: its clock differs.
REFRESH_S = 1.0
OVERLAP_S = 300.0
T = TypeVar("T")
log = logs.get("recorder")


class Erasing:
    """In front of an Archive. `news` hears that sessions were noted; `now` gives seconds that only grow."""

    def __init__(
        self,
        archive: Archive,
        tombstones: Tombstones,
        out: Out,
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
        self._known: set[Key] = set()
        self._ids: set[bytes] = set()
        self._seen_to = 0.0
        self._refreshed = float("-inf")

    async def bring_in(self, rows: Sequence[Record]) -> list[Letter]:
        """See Archive.bring_in. Waits for as long as ClickHouse or Kafka is away."""
        await self._refresh()
        if asked := self._asked(rows):
            await self._note(asked)
        kept = [record for record in rows if not self._is_erased(record)] if self._ids else rows
        if len(kept) < len(rows):
            log.info("rows of erased sessions left out", rows=len(rows) - len(kept))
        return await self._archive.bring_in(kept)

    async def _refresh(self) -> None:
        """Learn what others noted: this process may have taken over their partition."""
        if self._now() < self._refreshed + REFRESH_S:
            return
        since = self._seen_to - OVERLAP_S if self._seen_to else 0.0
        found, latest = await patiently(lambda: self._tombstones.since(since))
        self._know(found)
        self._seen_to, self._refreshed = latest, self._now()

    def _asked(self, rows: Sequence[Record]) -> dict[Key, datetime]:
        """Sessions that the batch says are erased and nobody noted yet."""
        asked: dict[Key, datetime] = {}
        for record in rows:
            if record.value and _WORD in record.value:
                row = _read(record)
                if row is not None and row.type == ERASED and _key(row) not in self._known:
                    asked.setdefault(_key(row), row.at)
        return asked

    async def _note(self, asked: dict[Key, datetime]) -> None:
        now = self._clock()
        tombstones = [Tombstone(key, at, now) for key, at in asked.items()]
        await patiently(lambda: self._tombstones.put(tombstones))
        for key in asked:
            await self._mark_letters(key)
        self._know(asked)
        log.info("sessions are erased", sessions=len(asked))
        self._news()

    async def _mark_letters(self, key: Key) -> None:
        """Say in the dead letters that those of this session are nobody's to read any more."""
        tenant, session = key
        headers = erasure_mark(tenant, rfc3339(self._clock()))
        while True:
            try:
                await self._out.send_and_wait(
                    DEAD.name, value=None, key=session.encode(), headers=headers
                )
            except KafkaError as error:
                log.warning("the erasure's mark waits: kafka", error=type(error).__name__)
                await asyncio.sleep(RETRY_S)
            else:
                return

    def _know(self, keys: Collection[Key]) -> None:
        self._known.update(keys)
        self._ids.update(session.encode() for _, session in keys)

    def _is_erased(self, record: Record) -> bool:
        """Only ids that two tenants share, and those that are erased, cost a parse."""
        if record.key not in self._ids and (record.key or b"") != b"":
            return False
        row = _read(record)
        return row is not None and _key(row) in self._known


async def patiently(work: Callable[[], T]) -> T:
    """Do blocking work in a thread, again and again while ClickHouse is away."""
    found: list[T] = []
    failures = 0
    while not found:
        try:
            await in_thread(lambda: found.append(work()))
        except Away as error:
            failures += 1
            if failures in (1, 5) or failures % 30 == 0:
                log.warning("erasures wait: ClickHouse", failures=failures, error=str(error))
            await asyncio.sleep(RETRY_S)
    return found[0]


def _key(row: Row) -> Key:
    return (row.tenant_id, row.session_id)


def _read(record: Record) -> Row | None:
    try:
        return read_row(record.value)
    except Corrupt:
        return None
