"""The agent-worker process: intake and drive. `python -m services.agent_worker.main`."""

from __future__ import annotations

import gc

if __name__ == "__main__":
    # What imports make stays: looking through it meanwhile is a quarter of the time they take.
    gc.disable()

import argparse
import asyncio
import os
import random
import signal
import socket
import sys
import time
import uuid
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from functools import partial

import uvloop
from aiokafka import AIOKafkaProducer
from sqlalchemy.ext.asyncio import AsyncEngine

from services.agent_worker import backlog
from services.agent_worker.adapters.answering import database_answers, kafka_answers
from services.agent_worker.adapters.aside import aside
from services.agent_worker.adapters.bindings import SqlBindings
from services.agent_worker.adapters.clients import consumer_of, producer_of
from services.agent_worker.adapters.engine import make_engine
from services.agent_worker.adapters.inputs import KafkaInputs, burial
from services.agent_worker.adapters.kafka import KafkaPublisher
from services.agent_worker.adapters.previews import Previews
from services.agent_worker.adapters.store import store_on
from services.agent_worker.adapters.tokens import governed
from services.agent_worker.drive import Drive
from services.agent_worker.drivers.anthropic import AnthropicProvider, connect
from services.agent_worker.drivers.functions import load
from services.agent_worker.drivers.opening import Openings
from services.agent_worker.governor.settings import RateSettings
from services.agent_worker.intake import Bury, Intake
from services.agent_worker.leases import Leases
from services.agent_worker.parking import parked
from services.agent_worker.poison import Poison
from services.agent_worker.ports import Provider, Publisher, Store
from services.agent_worker.settings import WorkerSettings
from services.agent_worker.sweep import Sweeper
from services.agent_worker.tools import Toolbox
from services.agent_worker.world import World
from shared import logs, telemetry
from shared.clock import utcnow
from shared.dead_letters import DeadLetters
from shared.health import serve_health
from shared.kafka import connected
from shared.session.policy import Policy
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
STOPPED, BROKEN, MISCONFIGURED = 0, 1, 2
log = logs.get(__name__)


class Settings:
    """Every block the agent-worker takes. Raises ValueError that names the wrong one."""

    def __init__(self) -> None:
        self.kafka, self.database = KafkaSettings(), DatabaseSettings()
        self.archive, self.provider = ArchiveSettings(), ProviderSettings()
        self.telemetry, self.health = TelemetrySettings(), HealthSettings()
        self.tenants, self.worker = TenantSettings(), WorkerSettings()
        self.rate = RateSettings()
        self.toolbox = Toolbox(
            load(self.worker.tools),
            seconds=self.worker.tool_timeout_seconds,
            at_once=self.worker.tool_concurrency,
        )

    @property
    def secrets(self) -> list[str]:
        """Values that must not appear in a log."""
        password = self.kafka.kafka_sasl_password
        urls = [self.database.database_url, self.archive.clickhouse_url]
        kept = [self.provider.anthropic_api_key, password, *urls]
        return [secret.get_secret_value() for secret in kept if secret]


def main() -> int:
    """Read the settings, run until SIGTERM or SIGINT, export what telemetry waits."""
    argparse.ArgumentParser(
        prog="python -m services.agent_worker.main",
        description="Takes turns in from turnstile.inputs.v1 and drives sessions until SIGTERM.",
        epilog="Settings: TURNSTILE_KAFKA_BOOTSTRAP, TURNSTILE_DATABASE_URL, TURNSTILE_CLICKHOUSE_URL (spans), "
        "TURNSTILE_TENANTS, ANTHROPIC_API_KEY, ANTHROPIC_BASE_URL, TURNSTILE_AGENT, TURNSTILE_ENVIRONMENT, "
        "TURNSTILE_CONCURRENCY, _LEASE_SECONDS, _POLL_SECONDS, _LINGER_SECONDS, _DRAIN_SECONDS, "
        "TURNSTILE_PROVIDER_REQUESTS_PER_MINUTE, _PROVIDER_CREATES_PER_MINUTE, _PROVIDER_WAIT_SECONDS, "
        "TURNSTILE_DEAD_RATIO, _DEAD_WINDOW, _DEAD_PAUSE_SECONDS, _ORPHAN_SWEEP_SECONDS, _ORPHAN_AGE_SECONDS, "
        "TURNSTILE_TOOLS, TURNSTILE_TOOL_TIMEOUT_SECONDS, TURNSTILE_TOOL_CONCURRENCY, "
        "TURNSTILE_HEALTH_PORT, TURNSTILE_LOG_LEVEL: docs/operations.md. Exit codes: 0 stopped, 1 broken (start "
        "it again), 2 a setting is wrong.",
    ).parse_args()
    try:
        settings = Settings()
    except ValueError as error:
        sys.stderr.write(f"agent-worker: wrong setting: {error}\n")
        return MISCONFIGURED
    logs.configure(SERVICE, settings.telemetry.turnstile_log_level, settings.secrets)
    owner = f"{socket.gethostname()}:{os.getpid()}:{uuid.uuid4().hex[:8]}"
    spans = telemetry.start(
        SERVICE, owner, settings.telemetry, settings.archive.clickhouse_url.get_secret_value()
    )
    try:
        uvloop.run(_run(settings, owner))
    except Exception:
        log.exception("the agent-worker broke")
        return BROKEN
    finally:
        spans.shutdown()
    log.info("stopped")
    return STOPPED


async def _run(settings: Settings, owner: str) -> None:
    stopping = asyncio.Event()
    for name in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(name, stopping.set)
    async with AsyncExitStack() as stack:
        connecting = asyncio.create_task(_connect(stack, settings.kafka))
        await _until(stopping, lambda: connecting)
        if not connecting.cancelled():
            producer, inputs = connecting.result()
            await _work(stack, settings, owner, producer, inputs, stopping)


async def _connect(
    stack: AsyncExitStack, kafka: KafkaSettings
) -> tuple[AIOKafkaProducer, KafkaInputs]:
    """Clients of the log, however long it is away."""
    producer = await stack.enter_async_context(connected(lambda: producer_of(kafka, SERVICE)))
    inputs = KafkaInputs(lambda: consumer_of(kafka, SERVICE))
    stack.push_async_callback(inputs.leave)
    await inputs.join()
    return producer, inputs


async def _work(
    stack: AsyncExitStack,
    settings: Settings,
    owner: str,
    producer: AIOKafkaProducer,
    inputs: KafkaInputs,
    stopping: asyncio.Event,
) -> None:
    """Take in and drive until told to stop; then let every session go."""
    worker, database, health = settings.worker, settings.database, settings.health
    engine = make_engine(database.database_url.get_secret_value(), pool=database.database_pool)
    stack.push_async_callback(engine.dispose)
    previews = Previews(producer, utcnow)
    letters, store = DeadLetters(producer, utcnow), store_on(engine)
    publisher = KafkaPublisher(producer, previews, utcnow, letters)
    provider = await stack.enter_async_context(_provider(settings))
    world = _world(worker, store, publisher, provider, settings.toolbox)
    leases = Leases(owner, worker.lease_seconds, time.monotonic)
    kept = await stack.enter_async_context(
        aside("leases", lambda: _keep(leases, settings.database))
    )
    drive = Drive(leases, world, worker)
    intake = _intake(settings, inputs, store, burial(letters, utcnow), drive)
    checks = {
        "kafka": kafka_answers(producer),
        "database": database_answers(engine),
        "intake": intake.check,
    }
    await stack.enter_async_context(serve_health(health.health_host, health.health_port, checks))
    log.info("started", owner=owner, concurrency=worker.concurrency)
    loops = (
        previews.run,
        publisher.broken,
        kept,
        intake.run,
        drive.run,
        partial(backlog.report, store),
        _sweeper(worker, provider, engine).run,
    )
    await _until(stopping, *loops)
    log.info("draining")
    await drive.drain()


def _intake(
    settings: Settings, inputs: KafkaInputs, store: Store, bury: Bury, drive: Drive
) -> Intake:
    worker, knows = settings.worker, settings.tenants.knows
    poison = Poison(ratio=worker.dead_ratio, window=worker.dead_window)
    parks = (lambda record, error: parked(record, error, utcnow)) if worker.park_sessions else None
    return Intake(
        inputs,
        store,
        bury=bury,
        knows=knows,
        news=drive.news,
        poison=poison,
        pause=worker.dead_pause_seconds,
        parks=parks,
    )


def _sweeper(worker: WorkerSettings, provider: AnthropicProvider, engine: AsyncEngine) -> Sweeper:
    return Sweeper(
        provider.leftovers,
        SqlBindings(engine),
        seconds=worker.orphan_sweep_seconds,
        age=worker.orphan_age_seconds,
        clock=utcnow,
        chance=random.random,
    )


def _world(
    worker: WorkerSettings, store: Store, publisher: Publisher, provider: Provider, tools: Toolbox
) -> World:
    return World(
        store=store,
        publisher=publisher,
        provider=provider,
        clock=utcnow,
        chance=random.random,
        policy=Policy(
            coalesce_for=worker.coalesce_seconds,
            answer_within=worker.answer_seconds or None,
            silent_for=worker.silence_seconds,
            call_for=worker.tool_call_seconds,
        ),
        linger=worker.linger_seconds,
        tools=tools,
    )


async def _keep(leases: Leases, database: DatabaseSettings) -> None:
    """Keep the leases through a connection of their own, which no session's statements can be ahead of."""
    engine = make_engine(database.database_url.get_secret_value(), pool=1)
    try:
        await leases.run(store_on(engine))
    finally:
        await engine.dispose()


async def _until(stopping: asyncio.Event, *loops: Callable[[], Awaitable[object]]) -> None:
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
async def _provider(settings: Settings) -> AsyncIterator[AnthropicProvider]:
    api, rate = settings.provider, settings.rate
    async with governed(
        settings.database.database_url.get_secret_value(),
        rate.limits(api.anthropic_base_url),
        patience=rate.provider_wait_seconds,
    ) as governor:
        client = connect(
            api_key=_secret(api),
            base_url=api.anthropic_base_url,
            sessions=settings.worker.concurrency,
            governor=governor,
        )
        openings = Openings(
            client,
            agent=api.turnstile_agent,
            environment=api.turnstile_environment,
            model=api.turnstile_model,
            tools=[tool.declaration for tool in settings.toolbox],
        )
        try:
            yield AnthropicProvider(client, openings, clock=utcnow, chance=random.random)
        finally:
            await client.close()


def _secret(provider: ProviderSettings) -> str | None:
    return provider.anthropic_api_key.get_secret_value() if provider.anthropic_api_key else None


if __name__ == "__main__":
    gc.freeze()
    gc.enable()
    sys.exit(main())
