"""A thousand sessions are to be archived at once, on a real database, while the provider is away: it is not
stormed, all are archived when it is back, none twice, and nothing is left that outlives its session."""

from __future__ import annotations

import asyncio
import time
from collections import Counter
from collections.abc import AsyncIterator
from datetime import timedelta
from typing import Any

import pytest
from msgspec.structs import replace
from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncEngine

from infra.postgres.migrate import migrate
from services.agent_worker.adapters.engine import make_engine, store_on
from services.agent_worker.adapters.sql import columns_of
from services.agent_worker.drive import Drive
from services.agent_worker.leases import Leases
from services.agent_worker.ports import Head
from services.agent_worker.provider.anthropic import AnthropicProvider, connect
from services.agent_worker.provider.opening import Openings
from services.agent_worker.provider.parts import Parts
from services.agent_worker.session import patience
from services.agent_worker.session.dependencies import Dependencies
from services.agent_worker.settings import WorkerSettings
from services.operator.audits.inbox import opened
from services.operator.audits.orphan_search import orphans
from services.operator.audits.provider import Provider as Reader
from shared.clock import utcnow
from shared.metrics import REGISTRY
from shared.moment import rfc3339
from shared.orphans import MARK, mark
from shared.session.lifetimes import Lifetimes, read
from shared.session.policy import Policy
from shared.session.state import Rest, initial
from shared.tables.worker import HEADS
from tests.e2e.waiting import eventually
from tests.fakes.profiles import MemoryProfiles
from tests.fakes.publisher import MemoryPublisher
from tests.fakes.releases import MemoryReleases
from tests.integration.simulator_client import Provider, provided

pytestmark = pytest.mark.integration
SESSIONS = 1_000
AWAY_SECONDS = 6.0
AWAY = {"match": {"path": "^/v1/"}, "fault": {"kind": "respond", "status": 503}}


@pytest.fixture
async def provider() -> AsyncIterator[Provider]:
    async with provided() as provider:
        yield provider


@pytest.fixture
async def engine(postgres_url: str) -> AsyncIterator[AsyncEngine]:
    await asyncio.to_thread(migrate, postgres_url)
    engine = make_engine(postgres_url, pool=8)
    yield engine
    await engine.dispose()


def requests() -> float:
    """Requests that were made of the provider in this process."""
    return sum(
        sample.value
        for metric in REGISTRY.collect()
        for sample in metric.samples
        if sample.name == "turnstile_provider_requests_total"
    )


async def due(engine: AsyncEngine, provider: Provider) -> None:
    """Rows of sessions that had their last turn long ago, each with a provider session."""
    past = rfc3339(utcnow() - timedelta(hours=2))
    soon = time.time() + AWAY_SECONDS / 3
    gate = asyncio.Semaphore(32)

    async def made(n: int) -> dict[str, Any]:
        async with gate:
            session = await provider.session(metadata={MARK: mark("acme", f"s{n}")})
        rest = Rest(last_turn_id="t1", since=past, archive_at=past)
        state = replace(
            initial("acme", f"s{n}"), status="idle", provider_session_id=session, rest=rest
        )
        head = Head(key=("acme", f"s{n}"), epoch=1, version=1, state=state)
        return {**columns_of(head), "wake_at": soon, "filed": 0}

    rows = await asyncio.gather(*(made(n) for n in range(SESSIONS)))
    async with engine.begin() as connection:
        await connection.execute(HEADS.insert(), rows)


def worker(engine: AsyncEngine, url: str) -> tuple[Drive, Leases, MemoryPublisher]:
    client = connect(api_key="key", base_url=url, sessions=2_000)
    parts = Parts(
        client, agent=None, environment=None, model="claude-sonnet-5", releases=MemoryReleases()
    )
    provider = AnthropicProvider(
        client, Openings(client, parts), MemoryProfiles(), clock=utcnow, chance=lambda: 0.5
    )
    publisher = MemoryPublisher(utcnow)
    lifetimes = Lifetimes(archive=read("3600", most=1e6))
    needs = Dependencies(
        store=store_on(engine),
        publisher=publisher,
        provider=provider,
        clock=utcnow,
        chance=lambda: 0.5,
        policy=Policy(lifetimes=lifetimes),
        linger=0.5,
        opening=5.0,
    )
    leases = Leases("one", 60.0, time.monotonic)
    return Drive(leases, needs, WorkerSettings(lease_seconds=60)), leases, publisher


async def closed(provider: Provider) -> int:
    left = [one async for one in provider.beta.sessions.list(limit=1000)]
    return SESSIONS - len(left)


async def test_a_thousand_sessions_are_archived_once_their_provider_is_back(
    provider: Provider, engine: AsyncEngine, postgres_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(patience, "SOONEST_AGAIN", 2.0)
    monkeypatch.setattr(patience, "LATEST_AGAIN", 8.0)
    await due(engine, provider)
    drive, _, publisher = worker(engine, provider.url)
    await provider.faults(AWAY)
    before = requests()
    driving = asyncio.create_task(drive.run())

    await asyncio.sleep(AWAY_SECONDS)  # the outage itself
    while_away = requests() - before
    await provider.faults()

    async def nobody_holds_one() -> bool:
        async with engine.connect() as connection:
            sql = "SELECT count(*) FROM worker_heads WHERE lease_owner IS NOT NULL OR wake_at IS NOT NULL"
            return await connection.scalar(text(sql)) in (0, None)

    await eventually(nobody_holds_one, "a thousand ends: rows, and nothing else", timeout=150)
    after = requests() - before - while_away
    assert await closed(provider) == SESSIONS
    driving.cancel()
    await asyncio.gather(driving, return_exceptions=True)
    said = Counter((event.session_id, event.type) for event in publisher.events)
    assert {said[f"s{n}", "session.archived"] for n in range(SESSIONS)} == {1}
    print(f"\nrequests while away: {while_away:.0f}, after: {after:.0f}")
    assert while_away <= SESSIONS
    assert after <= 5 * SESSIONS
    async with opened(postgres_url) as inbox:
        now = utcnow()
        since, at_least = now - timedelta(days=1), timedelta(0)
        found = orphans(Reader(provider.client), inbox, now=now, since=since, at_least=at_least)
        assert [finding async for finding in found] == []
