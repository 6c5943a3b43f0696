"""The agent-worker process: intake and drive. `python -m services.agent_worker.main`."""

from __future__ import annotations

import asyncio
import os
import random
import signal
import socket
import uuid
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack, asynccontextmanager

import uvloop
from aiokafka import AIOKafkaConsumer, AIOKafkaProducer
from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncEngine

from services.agent_worker.adapters.engine import make_engine
from services.agent_worker.adapters.inputs import GROUP, KafkaInputs, burial
from services.agent_worker.adapters.kafka import KafkaPublisher
from services.agent_worker.adapters.previews import Previews
from services.agent_worker.adapters.sql import SqlStore
from services.agent_worker.drive import Drive
from services.agent_worker.drivers.anthropic import AnthropicProvider, connect
from services.agent_worker.drivers.opening import Openings
from services.agent_worker.intake import Intake
from services.agent_worker.settings import WorkerSettings
from services.agent_worker.shell import World
from shared import logs, telemetry
from shared.bus import topics
from shared.clock import utcnow
from shared.health import serve_health
from shared.settings import (
    ArchiveSettings,
    DatabaseSettings,
    HealthSettings,
    KafkaSettings,
    ProviderSettings,
    TelemetrySettings,
    TenantSettings,
)

SERVICE = "agent-worker"
log = logs.get(__name__)


def main() -> None:
    """Run until SIGTERM or SIGINT."""
    uvloop.run(_run())


async def _run() -> None:
    database, archive, provider = DatabaseSettings(), ArchiveSettings(), ProviderSettings()
    tracing, health, settings = TelemetrySettings(), HealthSettings(), WorkerSettings()
    secrets = [provider.anthropic_api_key, database.database_url, archive.clickhouse_url]
    logs.configure(
        SERVICE, tracing.turnstile_log_level, [s.get_secret_value() for s in secrets if s]
    )
    owner = f"{socket.gethostname()}:{os.getpid()}:{uuid.uuid4().hex[:8]}"
    spans = telemetry.start(SERVICE, owner, tracing, archive.clickhouse_url.get_secret_value())
    stopping = asyncio.Event()
    for name in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(name, stopping.set)
    try:
        async with AsyncExitStack() as stack:
            engine = make_engine(
                database.database_url.get_secret_value(), pool=database.database_pool
            )
            stack.push_async_callback(engine.dispose)
            producer = await stack.enter_async_context(_producer(KafkaSettings()))
            consumer = await stack.enter_async_context(_consumer(KafkaSettings()))
            previews = Previews(producer, utcnow)
            store = SqlStore(engine)
            world = World(
                store=store,
                publisher=KafkaPublisher(producer, previews, utcnow),
                provider=await stack.enter_async_context(_provider(provider, settings.concurrency)),
                clock=utcnow,
                chance=random.random,
                linger=settings.linger_seconds,
            )
            drive = Drive(owner, world, settings)
            intake = Intake(
                KafkaInputs(consumer),
                store,
                bury=burial(producer, utcnow),
                knows=TenantSettings().knows,
                news=drive.news,
            )
            checks = {"kafka": _kafka_check(producer), "database": _database_check(engine)}
            await stack.enter_async_context(
                serve_health(health.health_host, health.health_port, checks)
            )
            log.info("started", owner=owner, concurrency=settings.concurrency)
            await _until(stopping, previews.run, intake.run, drive.run)
            log.info("draining")
            await drive.drain()
    finally:
        spans.shutdown()
        log.info("stopped")


async def _until(stopping: asyncio.Event, *loops: Callable[[], Awaitable[None]]) -> None:
    """Run the loops until told to stop. Raises what a loop raises: then the process ends and is started again."""
    tasks = [asyncio.ensure_future(loop()) for loop in loops]
    stop = asyncio.ensure_future(stopping.wait())
    done, _ = await asyncio.wait([stop, *tasks], return_when=asyncio.FIRST_COMPLETED)
    for task in (stop, *tasks):
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)
    for task in done - {stop}:
        await task


@asynccontextmanager
async def _provider(settings: ProviderSettings, sessions: int) -> AsyncIterator[AnthropicProvider]:
    client = connect(
        api_key=_secret(settings), base_url=settings.anthropic_base_url, sessions=sessions
    )
    openings = Openings(
        client,
        agent=settings.turnstile_agent,
        environment=settings.turnstile_environment,
        model=settings.turnstile_model,
    )
    try:
        yield AnthropicProvider(client, openings, clock=utcnow, chance=random.random)
    finally:
        await client.close()


@asynccontextmanager
async def _producer(kafka: KafkaSettings) -> AsyncIterator[AIOKafkaProducer]:
    producer = AIOKafkaProducer(
        **kafka.client(SERVICE),
        acks="all",
        enable_idempotence=True,
        max_request_size=topics.MAX_MESSAGE_BYTES,
        compression_type="lz4",
        linger_ms=0,
    )
    await producer.start()
    try:
        yield producer
    finally:
        await asyncio.wait_for(producer.stop(), 10.0)


@asynccontextmanager
async def _consumer(kafka: KafkaSettings) -> AsyncIterator[AIOKafkaConsumer]:
    consumer = AIOKafkaConsumer(
        topics.INPUTS.name,
        **kafka.client(SERVICE),
        group_id=GROUP,
        auto_offset_reset="earliest",
        enable_auto_commit=False,
        # The database may be away for longer than any poll interval; the group's heartbeat is what counts.
        max_poll_interval_ms=24 * 60 * 60 * 1000,
        session_timeout_ms=10_000,
        heartbeat_interval_ms=1_000,
        max_partition_fetch_bytes=topics.MAX_MESSAGE_BYTES,
        fetch_max_wait_ms=500,
    )
    await consumer.start()
    try:
        yield consumer
    finally:
        await asyncio.wait_for(consumer.stop(), 10.0)


def _secret(provider: ProviderSettings) -> str | None:
    return provider.anthropic_api_key.get_secret_value() if provider.anthropic_api_key else None


def _kafka_check(producer: AIOKafkaProducer) -> Callable[[], Awaitable[None]]:
    async def check() -> None:
        await producer.partitions_for(topics.EVENTS.name)

    return check


def _database_check(engine: AsyncEngine) -> Callable[[], Awaitable[None]]:
    async def check() -> None:
        async with engine.connect() as connection:
            await connection.execute(text("SELECT 1 FROM worker_heads LIMIT 1"))

    return check


if __name__ == "__main__":
    main()
