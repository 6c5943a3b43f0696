"""`python -m services.recorder.main`: records events until SIGTERM or SIGINT.

Exit codes: 0 stopped as asked, 1 something broke (start it again), 2 a setting is wrong, 3 the brake was pulled.
"""

from __future__ import annotations

import gc

if __name__ == "__main__":
    # What imports make stays: looking through it meanwhile is a quarter of the time they take.
    gc.disable()

import argparse
import asyncio
import contextlib
import os
import random
import signal
import socket
import sys
import time
from urllib.parse import unquote, urlsplit

from pydantic import ValidationError

from services.recorder import kafka
from services.recorder.archive import Archive, in_thread
from services.recorder.consume import Recorder
from services.recorder.dead import DeadLetters
from services.recorder.eraser import Eraser
from services.recorder.erasing import Erasing
from services.recorder.ports import Log, Out
from services.recorder.settings import RecorderSettings
from services.recorder.tombstones import Tombstones
from services.recorder.writer import ClickHouseWriter
from shared import dead_letters as letters
from shared import logs, telemetry
from shared.bus.brake import Brake, Braked
from shared.clock import utcnow
from shared.health import Check, serve_health
from shared.kafka import started, stopped
from shared.settings import ArchiveSettings, HealthSettings, KafkaSettings, TelemetrySettings

SERVICE = "recorder"
STOPPED, BROKEN, MISCONFIGURED, BRAKED = 0, 1, 2, 3

log = logs.get("recorder")


class Settings:
    """Every block the recorder takes."""

    def __init__(self) -> None:
        self.kafka = KafkaSettings()
        self.archive = ArchiveSettings()
        self.health = HealthSettings()
        self.telemetry = TelemetrySettings()
        self.recorder = RecorderSettings()

    @property
    def clickhouse_url(self) -> str:
        return self.archive.clickhouse_url.get_secret_value()

    @property
    def secrets(self) -> list[str]:
        """Values that must not appear in a log."""
        passwords = [unquote(urlsplit(self.clickhouse_url).password or "")]
        if self.kafka.kafka_sasl_password is not None:
            passwords.append(self.kafka.kafka_sasl_password.get_secret_value())
        return [password for password in passwords if password]


class Parts:
    """The recorder's clients: made by `start`, given back by `close`, asked by the health checks."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        seconds = settings.recorder.recorder_insert_seconds
        self._writer = ClickHouseWriter(settings.clickhouse_url, timeout=seconds)
        # A client of its own: a health check must not wait behind an insert.
        self._probe = ClickHouseWriter(settings.clickhouse_url, timeout=2.0)
        # One for the rows that come, one for the eraser: a deletion may take long.
        self._noted = Tombstones(settings.clickhouse_url, timeout=seconds)
        self._open = Tombstones(settings.clickhouse_url, timeout=seconds)
        self.eraser = Eraser(self._open, utcnow)
        self._consumer: Log | None = None
        self._producer: Out | None = None
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
        archive = Archive(self._writer, brake, chance=random.random, clock=time.perf_counter)
        dead = DeadLetters(letters.DeadLetters(self._producer, utcnow), utcnow)
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


async def record(settings: Settings) -> int:
    """Run the recorder until a signal; returns the exit code."""
    stop = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, stop.set)
    parts, health = Parts(settings), settings.health
    async with serve_health(health.health_host, health.health_port, parts.checks):
        try:
            return await _until(stop, parts)
        finally:
            await parts.close()


async def _until(stop: asyncio.Event, parts: Parts) -> int:
    stopping = asyncio.create_task(stop.wait())
    starting = asyncio.create_task(parts.start())
    await asyncio.wait({starting, stopping}, return_when=asyncio.FIRST_COMPLETED)
    if not starting.done():
        starting.cancel()
        await asyncio.wait({starting})
        return STOPPED
    recorder = starting.result()
    stopping.add_done_callback(lambda _: recorder.stop())
    erasing = asyncio.create_task(parts.eraser.run(), name="recorder-erase")
    erasing.add_done_callback(lambda _: recorder.stop())
    try:
        log.info("recording")
        await recorder.run()
    except Braked as error:
        log.error("stopped by the brake", error=str(error))
        return BRAKED
    finally:
        stopping.cancel()
        erasing.cancel()
    with contextlib.suppress(asyncio.CancelledError):
        await erasing  # what broke it breaks the process
    log.info("stopped")
    return STOPPED


def main() -> int:
    """Read the settings, run, export what telemetry waits."""
    argparse.ArgumentParser(
        prog="python -m services.recorder.main",
        description="Records every event of turnstile.events.v1 in ClickHouse until SIGTERM.",
        epilog="Settings: TURNSTILE_KAFKA_BOOTSTRAP, TURNSTILE_CLICKHOUSE_URL, "
        "TURNSTILE_HEALTH_PORT, TURNSTILE_LOG_LEVEL, OTEL_EXPORTER_OTLP_ENDPOINT, "
        "TURNSTILE_RECORDER_BATCH_ROWS, _BATCH_BYTES, _BATCH_SECONDS, _INSERT_SECONDS, "
        "_DEAD_CONSECUTIVE, _DEAD_RATIO. Exit codes: 0 stopped, 1 broken, 2 wrong setting, "
        "3 too many bad records.",
    ).parse_args()
    try:
        settings = Settings()
    except ValidationError as error:
        sys.stderr.write(f"recorder: wrong setting: {error}\n")
        return MISCONFIGURED
    logs.configure(SERVICE, settings.telemetry.turnstile_log_level, settings.secrets)
    instance = f"{socket.gethostname()}-{os.getpid()}"
    tracing = telemetry.start(SERVICE, instance, settings.telemetry, settings.clickhouse_url)
    try:
        return asyncio.run(record(settings))
    except Exception:
        log.exception("the recorder broke")
        return BROKEN
    finally:
        tracing.shutdown()


if __name__ == "__main__":
    gc.freeze()
    gc.enable()
    sys.exit(main())
