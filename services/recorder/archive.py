"""Brings batches into the archive: with patience while ClickHouse is away, by halves when it refuses."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, Sequence

from services.recorder.batch import Letter, is_ours
from services.recorder.ports import Record, Writer
from services.recorder.rows import body
from services.recorder.writer import Away, Refused
from shared import logs, metrics
from shared.archive_insert import TABLE
from shared.bus.brake import Brake
from shared.log_flood import Flood

FIRST_PAUSE_S = 0.2
# One process asks, for one batch: an archive that comes back need not wait longer to be used.
LONGEST_PAUSE_S = 0.5
# Refused rows that are told one by one, in ten seconds.
TOLD_EACH = 20

log = logs.get("recorder")


class Archive:
    """Inserts rows for as long as it takes. `chance` gives 0..1 for jitter, `clock` seconds."""

    def __init__(
        self,
        writer: Writer,
        brake: Brake,
        *,
        chance: Callable[[], float],
        clock: Callable[[], float],
    ) -> None:
        self._writer = writer
        self._brake = brake
        self._chance = chance
        self._clock = clock
        self._flood = Flood(TOLD_EACH)

    async def bring_in(self, rows: Sequence[Record]) -> list[Letter]:
        """Insert all rows but those that ClickHouse refuses one by one; they come back as letters.

        Returns when everything else is in. Raises Braked when too many of our own are refused; what was inserted by
        then is in, and a repeat of it is harmless.
        """
        refused: list[Letter] = []
        parts = [rows] if rows else []
        while parts:
            part = parts.pop()
            try:
                await self._insert(part)
            except Refused as error:
                if len(part) > 1:
                    middle = len(part) // 2
                    parts += [part[middle:], part[:middle]]
                    continue
                refused.append(Letter(part[0], "refused_by_clickhouse", str(error)))
                if self._flood.passes(error.code) is not None:
                    log.warning("ClickHouse refuses a row", code=error.code)
                if is_ours(part[0]):
                    self._brake.bad()
            else:
                self._brake.good(len(part))
        return refused

    async def _insert(self, rows: Sequence[Record]) -> None:
        """One part, tried until it is in or refused."""
        text = body(rows)
        pause, failures = FIRST_PAUSE_S, 0
        while True:
            began = self._clock()
            try:
                await in_thread(lambda: self._writer.insert(text))
            except Refused:
                metrics.inc("turnstile_insert_failures_total", table=TABLE, kind="refused")
                raise
            except Away as error:
                failures += 1
                metrics.inc("turnstile_insert_failures_total", table=TABLE, kind="away")
                if failures in (1, 5) or failures % 30 == 0:
                    log.warning(
                        "ClickHouse does not take rows", failures=failures, error=str(error)
                    )
                await asyncio.sleep(pause * (0.5 + self._chance() / 2))
                pause = min(pause * 2, LONGEST_PAUSE_S)
            else:
                self._count(len(rows), self._clock() - began)
                if failures:
                    log.info("ClickHouse takes rows again", failures=failures)
                return

    def _count(self, rows: int, seconds: float) -> None:
        metrics.inc("turnstile_rows_inserted_total", rows, table=TABLE)
        metrics.observe("turnstile_batch_rows", rows, table=TABLE)
        metrics.observe("turnstile_insert_seconds", seconds, table=TABLE)


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
