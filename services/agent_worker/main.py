"""The agent-worker process: intake and drive. `python -m services.agent_worker.main`."""

from __future__ import annotations

import gc

if __name__ == "__main__":
    # What imports make stays: looking through it meanwhile is a quarter of the time they take.
    gc.disable()

import asyncio
import random
import sys
import time
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from functools import partial

from sqlalchemy.ext.asyncio import AsyncEngine

from services.agent_worker.adapters.bindings import SqlBindings
from services.agent_worker.adapters.clients import member_of, producer_of
from services.agent_worker.adapters.engine import database_answers, make_engine, store_on
from services.agent_worker.adapters.inputs import KafkaInputConsumer, burial
from services.agent_worker.adapters.kafka import KafkaPublisher
from services.agent_worker.adapters.own_thread import in_own_thread
from services.agent_worker.adapters.previews import Previews
from services.agent_worker.adapters.tokens import governed
from services.agent_worker.drive import Drive, report_backlog
from services.agent_worker.inbox.intake import Bury, Intake
from services.agent_worker.inbox.validate import parked
from services.agent_worker.leases import Leases
from services.agent_worker.ports import Provider, Publisher, Store
from services.agent_worker.provider.anthropic import AnthropicProvider, connect
from services.agent_worker.provider.functions import load
from services.agent_worker.provider.opening import Openings
from services.agent_worker.provider.parts import Parts
from services.agent_worker.provider.sweep import Sweeper
from services.agent_worker.session.dependencies import Dependencies
from services.agent_worker.session.tools import Toolbox
from services.agent_worker.settings import Settings, WorkerSettings
from shared import logs, price_file, process
from shared.bus.brake import IntakeBrake
from shared.clock import utcnow
from shared.dead_letters import DeadLetters
from shared.health import serve_health
from shared.kafka import connected
from shared.session.policy import Policy
from shared.settings import DatabaseSettings, KafkaSettings, ProviderSettings
from shared.stream import Publishing

SERVICE = "agent-worker"
log = logs.get(__name__)


class LoadedSettings(Settings):
    """The settings, and the tools and prices they name. Raises ValueError when one can't be loaded."""

    def __init__(self) -> None:
        super().__init__()
        self.toolbox = Toolbox(
            load(self.worker.tools),
            seconds=self.worker.tool_timeout_seconds,
            at_once=self.worker.tool_concurrency,
        )
        self.prices = price_file.load(self.worker.prices)


def main() -> int:
    """The command `python -m services.agent_worker.main`; everything is set by the environment."""
    does = "Takes turns in from turnstile.inputs.v1 and drives sessions until SIGTERM."
    return process.run(SERVICE, does, LoadedSettings, _run)


async def _run(settings: LoadedSettings, stopping: asyncio.Event) -> None:
    async with AsyncExitStack() as stack:
        clients = await process.unless(stopping, _connect(stack, settings.kafka))
        if clients:
            await _work(stack, settings, *clients, stopping)


async def _connect(
    stack: AsyncExitStack, kafka: KafkaSettings
) -> tuple[Publishing, KafkaInputConsumer]:
    """Clients of the log, however long it is away."""
    producer = await stack.enter_async_context(connected(lambda: producer_of(kafka, SERVICE)))
    inputs = KafkaInputConsumer(lambda: member_of(kafka, SERVICE))
    stack.push_async_callback(inputs.leave)
    await inputs.join()
    return producer, inputs


async def _work(
    stack: AsyncExitStack,
    settings: LoadedSettings,
    producer: Publishing,
    inputs: KafkaInputConsumer,
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
    needs = _dependencies(settings, store, publisher, provider)
    leases = Leases(settings.instance, worker.lease_seconds, time.monotonic)
    kept = await stack.enter_async_context(
        in_own_thread("leases", lambda: _keep(leases, settings.database))
    )
    drive = Drive(leases, needs, worker)
    intake = _intake(settings, inputs, store, burial(letters, utcnow), drive)
    checks = {
        "kafka": producer.check,
        "database": database_answers(engine),
        "intake": intake.check,
    }
    await stack.enter_async_context(serve_health(health.health_host, health.health_port, checks))
    log.info("started", owner=settings.instance, concurrency=worker.concurrency)
    await process.until(
        stopping,
        previews=previews.run,
        publisher=publisher.broken,
        leases=kept,
        intake=intake.run,
        drive=drive.run,
        backlog=partial(report_backlog, store),
        sweeper=_sweeper(worker, provider, engine).run,
    )
    log.info("draining")
    await drive.drain()


def _intake(
    settings: Settings, inputs: KafkaInputConsumer, store: Store, bury: Bury, drive: Drive
) -> Intake:
    worker, knows = settings.worker, settings.tenants.knows
    brake = IntakeBrake(ratio=worker.dead_ratio, window=worker.dead_window)
    parks = (lambda record, error: parked(record, error, utcnow)) if worker.park_sessions else None
    return Intake(
        inputs,
        store,
        bury=bury,
        knows=knows,
        news=drive.news,
        brake=brake,
        pause=worker.dead_pause_seconds,
        parks=parks,
        hand=drive.hand,
    )


def _sweeper(worker: WorkerSettings, provider: AnthropicProvider, engine: AsyncEngine) -> Sweeper:
    return Sweeper(
        provider.marked_sessions,
        SqlBindings(engine),
        seconds=worker.orphan_sweep_seconds,
        age=worker.orphan_age_seconds,
        clock=utcnow,
        chance=random.random,
    )


def _dependencies(
    settings: LoadedSettings, store: Store, publisher: Publisher, provider: Provider
) -> Dependencies:
    worker = settings.worker
    return Dependencies(
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
            prices=settings.prices,
        ),
        linger=worker.linger_seconds,
        tools=settings.toolbox,
    )


async def _keep(leases: Leases, database: DatabaseSettings) -> None:
    """Keep the leases through a connection of their own, which no session's statements can be ahead of."""
    engine = make_engine(database.database_url.get_secret_value(), pool=1)
    try:
        await leases.run(store_on(engine))
    finally:
        await engine.dispose()


@asynccontextmanager
async def _provider(settings: LoadedSettings) -> AsyncIterator[AnthropicProvider]:
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
        parts = Parts(
            client,
            agent=api.turnstile_agent,
            environment=api.turnstile_environment,
            model=api.turnstile_model,
            tools=[tool.declaration for tool in settings.toolbox],
        )
        try:
            yield AnthropicProvider(
                client, Openings(client, parts), clock=utcnow, chance=random.random
            )
        finally:
            await client.close()


def _secret(provider: ProviderSettings) -> str | None:
    return provider.anthropic_api_key.get_secret_value() if provider.anthropic_api_key else None


if __name__ == "__main__":
    sys.exit(main())
