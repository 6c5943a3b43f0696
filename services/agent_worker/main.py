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
from contextlib import AbstractAsyncContextManager, AsyncExitStack
from functools import partial

from services.agent_worker.adapters.bindings import SqlBindings
from services.agent_worker.adapters.caps import LOOK_SECONDS, SqlCaps
from services.agent_worker.adapters.clients import member_of, producer_of
from services.agent_worker.adapters.conversations import SqlConversations
from services.agent_worker.adapters.engine import database_answers, make_engine, store_on
from services.agent_worker.adapters.inputs import KafkaInputConsumer, burial
from services.agent_worker.adapters.kafka import KafkaPublisher
from services.agent_worker.adapters.own_thread import in_own_thread
from services.agent_worker.adapters.owned import SqlOwned
from services.agent_worker.adapters.previews import Previews
from services.agent_worker.adapters.profiles import SqlProfiles
from services.agent_worker.adapters.releases import SqlReleases
from services.agent_worker.adapters.tokens import governed
from services.agent_worker.drive import Drive, report_backlog
from services.agent_worker.governor.governor import Governor
from services.agent_worker.inbox.intake import Bury, Intake
from services.agent_worker.inbox.validate import parked
from services.agent_worker.leases import Leases
from services.agent_worker.ports import Provider, Publisher, Store
from services.agent_worker.provider.messages.agents import Agent, load
from services.agent_worker.session.dependencies import Dependencies
from services.agent_worker.session.prewarmed import Prewarmed
from services.agent_worker.session.tools import Function, Toolbox
from services.agent_worker.settings import Settings
from shared import logs, price_file, process
from shared.bus.brake import IntakeBrake
from shared.clock import utcnow
from shared.dead_letters import DeadLetters
from shared.errors import Transient
from shared.health import serve_health
from shared.kafka import connected
from shared.ownership import Ownership
from shared.session.policy import Policy
from shared.settings import DatabaseSettings, KafkaSettings
from shared.stream import Publishing

SERVICE = "agent-worker"
log = logs.get(__name__)


class LoadedSettings(Settings):
    """The settings, and the tools, prices and agents they name. Raises ValueError when one can't be loaded."""

    def __init__(self) -> None:
        super().__init__()
        self.toolbox = Toolbox(
            _functions(self.worker.tools),
            seconds=self.worker.tool_timeout_seconds,
            at_once=self.worker.tool_concurrency,
        )
        self.prices = price_file.load(self.worker.prices)
        self.agents = self._agents()

    def _agents(self) -> dict[str, Agent]:
        folder, model = self.worker.messages_agents, self.provider.turnstile_model
        return load(folder, model, [tool.declaration for tool in self.toolbox]) if folder else {}


def _functions(places: str) -> list[Function]:
    """See `load`. The SDK, with whose decorators tools are declared, is imported if there are any."""
    if not places:
        return []
    from services.agent_worker.provider.functions import load as load_functions

    return load_functions(places)


def main() -> int:
    """The command `python -m services.agent_worker.main`; everything is set by the environment."""
    does = "Takes turns in from turnstile.inputs.v1 and drives sessions until SIGTERM."
    return process.run(SERVICE, does, LoadedSettings, _run)


async def _run(settings: LoadedSettings, stopping: asyncio.Event) -> None:
    loading = asyncio.create_task(asyncio.to_thread(_import_provider))
    async with AsyncExitStack() as stack:
        clients = await process.unless(stopping, _connect(stack, settings.kafka))
        if clients:
            await loading
            await _work(stack, settings, *clients, stopping)


def _import_provider() -> None:
    """Import what drives the provider: longer than all else together, and nothing of it is needed to connect."""
    from services.agent_worker.provider import assembly  # noqa: F401

    gc.freeze()  # it stays, like what was imported before


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
    """Take in and drive until told to stop; then let every session go. `_import_provider` has been called."""
    from services.agent_worker.provider.assembly import Kept, provider_of, sweeper_of

    worker, database, health = settings.worker, settings.database, settings.health
    engine = make_engine(database.database_url.get_secret_value(), pool=database.database_pool)
    stack.push_async_callback(engine.dispose)
    previews = Previews(producer, utcnow)
    letters, store = DeadLetters(producer, utcnow), store_on(engine)
    publisher = KafkaPublisher(producer, previews, utcnow, letters)
    governor = await stack.enter_async_context(_governor(settings))
    releases, owned = SqlReleases(engine), SqlOwned(engine)
    kept = Kept(SqlProfiles(engine), releases, owned, SqlConversations(engine))
    provider, managed = await stack.enter_async_context(
        provider_of(settings, settings.toolbox, governor, kept, settings.agents)
    )
    caps = SqlCaps(engine)
    await process.unless(stopping, _known(caps))
    needs = _dependencies(settings, store, publisher, provider, caps)
    leases = Leases(settings.instance, worker.lease_seconds, time.monotonic)
    leased = await stack.enter_async_context(
        in_own_thread("leases", lambda: _keep(leases, settings.database))
    )
    drive = Drive(leases, needs, worker)
    ownership = Ownership(
        owned,
        unbound=settings.ownership.unbound_ids,
        defaults=settings.provider.defaults,
        clock=utcnow,
        monotonic=time.monotonic,
        released=releases.has,
        absent=settings.provider.absent,
    )
    intake = _intake(settings, inputs, store, burial(letters, utcnow), drive, ownership)
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
        leases=leased,
        intake=intake.run,
        drive=drive.run,
        caps=caps.run,
        backlog=partial(report_backlog, store),
        sweeper=sweeper_of(worker, managed, SqlBindings(engine)).run,
    )
    log.info("draining")
    await drive.drain()


def _intake(
    settings: Settings,
    inputs: KafkaInputConsumer,
    store: Store,
    bury: Bury,
    drive: Drive,
    ownership: Ownership,
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
        strange=ownership.strange,
    )


async def _known(caps: SqlCaps) -> None:
    """Read the caps before the first turn, however long the database is away."""
    while True:
        try:
            return await caps.look()
        except Transient as error:
            log.warning("caps_not_read", reason=error.reason)
            await asyncio.sleep(LOOK_SECONDS)


def _dependencies(
    settings: LoadedSettings,
    store: Store,
    publisher: Publisher,
    provider: Provider,
    caps: SqlCaps,
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
            lifetimes=worker.lifetimes,
            prewarm_for=worker.prewarm_seconds,
        ),
        prewarmed=Prewarmed(worker.prewarm_max, worker.prewarm_seconds, time.monotonic),
        linger=worker.linger_seconds,
        tools=settings.toolbox,
        caps=caps,
        turn_reserve=round(worker.turn_reserve_usd * 1e6),
    )


def _governor(settings: Settings) -> AbstractAsyncContextManager[Governor | None]:
    rate = settings.rate
    return governed(
        settings.database.database_url.get_secret_value(),
        rate.limits(settings.provider.anthropic_base_url),
        patience=rate.provider_wait_seconds,
    )


async def _keep(leases: Leases, database: DatabaseSettings) -> None:
    """Keep the leases through a connection of their own, which no session's statements can be ahead of."""
    engine = make_engine(database.database_url.get_secret_value(), pool=1)
    try:
        await leases.run(store_on(engine))
    finally:
        await engine.dispose()


if __name__ == "__main__":
    sys.exit(main())
