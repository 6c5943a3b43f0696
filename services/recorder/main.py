"""`python -m services.recorder.main`: records events until SIGTERM or SIGINT.

Exit codes: 0 stopped as asked, 1 something broke (start it again), 2 a setting is wrong, 3 the brake was pulled.
"""

from __future__ import annotations

import gc

if __name__ == "__main__":
    # What imports make stays: looking through it meanwhile is a quarter of the time they take.
    gc.disable()

import asyncio
import random
import sys
import time

from services.recorder import kafka
from services.recorder.archive import ArchiveSink, ClickHouseWriter, in_thread
from services.recorder.consume import KafkaDeadLetterSender, Recorder
from services.recorder.eraser import Eraser, Erasing
from services.recorder.ports import EventConsumer, KafkaProducer
from services.recorder.settings import Settings
from services.recorder.tombstones import Tombstones
from shared import dead_letters as letters
from shared import logs, process
from shared.bus.brake import Brake
from shared.clock import utcnow
from shared.health import Check, serve_health
from shared.kafka import started, stopped

log = logs.get("recorder")


class Parts:
    """The recorder's clients: made by `start`, given back by `close`, asked by the health checks."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        seconds = settings.recorder.recorder_insert_seconds
        url = settings.archive.clickhouse_url.get_secret_value()
        self._writer = ClickHouseWriter(url, timeout=seconds)
        # A client of its own: a health check must not wait behind an insert.
        self._probe = ClickHouseWriter(url, timeout=2.0)
        # One for the rows that come, one for the eraser: a deletion may take long.
        self._noted = Tombstones(url, timeout=seconds)
        self._open = Tombstones(url, timeout=seconds)
        self.eraser = Eraser(self._open, utcnow)
        self._consumer: EventConsumer | None = None
        self._producer: KafkaProducer | None = None
        self.checks: dict[str, Check] = {
            "kafka": self._kafka_answers,
            "clickhouse": lambda: in_thread(self._probe.ping),
        }

    async def start(self) -> Recorder:
        """Connect, however long Kafka is away, and build the recorder."""
        settings = self._settings
        self._consumer = await started(lambda: kafka.consumer(settings.kafka))
        self._producer = await started(lambda: kafka.producer(settings.kafka))
        limits = settings.recorder
        brake = Brake(
            ratio=limits.recorder_dead_ratio, consecutive=limits.recorder_dead_consecutive
        )
        archive = ArchiveSink(
            self._writer,
            brake,
            chance=random.random,
            clock=time.perf_counter,
            most=limits.recorder_batch_rows,
        )
        dead = KafkaDeadLetterSender(letters.DeadLetters(self._producer, utcnow), utcnow)
        erasing = Erasing(
            archive,
            self._noted,
            self._producer,
            clock=utcnow,
            now=time.monotonic,
            news=self.eraser.poke,
        )
        return Recorder(self._consumer, erasing, dead, brake, limits, utcnow)

    async def close(self) -> None:
        """Leave the group and close every connection."""
        for client in (self._consumer, self._producer):
            if client is not None:
                await stopped(client)
        for connection in (self._writer, self._probe, self._noted, self._open):
            connection.close()

    async def _kafka_answers(self) -> None:
        if self._consumer is None:
            raise ConnectionError("not connected yet")
        await self._consumer.topics()


async def record(settings: Settings, stopping: asyncio.Event) -> None:
    """Record until told to stop: then the batch in hand is finished. Raises Braked."""
    parts, health = Parts(settings), settings.health
    async with serve_health(health.health_host, health.health_port, parts.checks):
        try:
            recorder = await process.unless(stopping, parts.start())
            if recorder is None:
                return
            async with process.beside(stopping, eraser=parts.eraser.run):
                log.info("recording")
                async with process.on_stop(stopping, recorder.stop):
                    await recorder.run()
        finally:
            await parts.close()


def main() -> int:
    """The command `python -m services.recorder.main`; everything is set by the environment."""
    does = "Records every event of turnstile.events.v1 in ClickHouse until SIGTERM."
    return process.run("recorder", does, Settings, record)


if __name__ == "__main__":
    sys.exit(main())
