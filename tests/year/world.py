"""What outlives the workers of a year, and the workers, each killed at some effect and started again."""

from __future__ import annotations

import asyncio
import itertools
from dataclasses import dataclass
from random import Random
from typing import cast
from zlib import crc32

from shared.price_file import load
from shared.session.inputs import Filed
from shared.session.lifetimes import Lifetimes, read
from shared.session.policy import Policy
from tests.fakes.inputs import MemoryInputTopic
from tests.unit.agent_worker.effects import Halt
from tests.unit.agent_worker.outside import Outside, Pace, as_record
from tests.unit.agent_worker.worker import Worker
from tests.year.log import YearLog
from tests.year.provider import PayingProvider
from tests.year.sql import CountedSqlStore, SqlYearStore, opened
from tests.year.store import YearStore

IDLE_SECONDS, ARCHIVE_SECONDS = 900, 3600
# Long leases and rare looks: each look of each worker costs real time, and a year has many.
PACE = Pace(lease=900.0, poll=600.0, look=60.0)
# More than the dearest turn that the provider plays.
TURN_RESERVE = 250_000
AGAIN_SECONDS = 5.0


class World(Outside):
    """Without a cap until some are set. A worker takes in its part of the sessions' inputs."""

    def __init__(self, workers: int, *, rests: bool = True) -> None:
        super().__init__(PACE)
        self.log = self.publisher = YearLog(self.clock)
        self.store = YearStore(self.clock)
        self.worker: type[YearWorker] = YearWorker
        self.provider = self.paying = PayingProvider(self.clock)
        self.turn_reserve = TURN_RESERVE
        self.parts = [MemoryInputTopic() for _ in range(workers)]
        self.policy = Policy(silent_for=120.0, prices=load(), lifetimes=_rests() if rests else None)
        self._ids = itertools.count()

    @property
    def passed(self) -> float:
        """Seconds since the beginning."""
        return self._loop.time() - self._began

    def next_id(self) -> int:
        """Counted from 0."""
        return next(self._ids)

    def put(self, filed: Filed) -> None:
        """Publish a request to its session's part."""
        key, value, headers = as_record(filed)
        self.parts[crc32(key) % len(self.parts)].put(key, value, headers)

    async def on(self, url: str) -> None:
        """Have sessions kept in the database at this URL, which is migrated first."""
        self.store = cast("YearStore", await opened(url, self.clock))
        self.worker = SqlYearWorker

    async def over(self) -> None:
        """What was kept in a database is read, to be judged."""
        if isinstance(self.store, SqlYearStore):
            await self.store.look()
            await self.store.close()

    @property
    def at_rest(self) -> bool:
        """Nothing waits to be taken in, nobody holds a session, none is due."""
        taken = all(part.committed == len(part.records) for part in self.parts)
        return taken and not self.store.moving


def _rests() -> Lifetimes:
    return Lifetimes(
        idle=read(str(IDLE_SECONDS), most=1e6), archive=read(str(ARCHIVE_SECONDS), most=1e6)
    )


@dataclass
class Place:
    """Where one worker after another runs; each dies at an effect by chance, `apart` of them on average.
    0: none dies."""

    world: World
    number: int
    draw: Random
    apart: int
    killed: int = 0

    async def run(self) -> None:
        """For ever, until cancelled."""
        await asyncio.sleep(PACE.poll * self.number / len(self.world.parts))
        while True:
            worker = self.world.worker(
                self.world,
                f"worker-{self.number}-{self.killed}",
                halt=self._halt(),
                topic=self.world.parts[self.number],
            )
            worker.start()
            await worker.over()
            await worker.kill()
            self.killed += 1
            await asyncio.sleep(AGAIN_SECONDS)

    def _halt(self) -> Halt | None:
        if not self.apart:
            return None
        k = 1 + int(self.draw.expovariate(1 / self.apart))
        return Halt(k, "before" if self.draw.random() < 0.5 else "after")


class YearWorker(Worker):
    """Keeps its leases a moment after its loop has shown that it runs: with leases this long the two, at the same
    time, would look like a loop that hangs."""

    def start(self) -> None:
        """See Worker.start."""
        self._loops = [self._begin(self.intake.run()), self._begin(self.drive.run())]
        self._keeping = self._begin(self._keep())

    async def _keep(self) -> None:
        await asyncio.sleep(1.0)
        await self.leases.run(self._store)


class SqlYearWorker(YearWorker):
    """One whose sessions are kept in a database."""

    counts = CountedSqlStore
