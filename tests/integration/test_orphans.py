"""Orphans on the simulator and a real database: listed by the operator, archived by the worker's sweep."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from datetime import timedelta
from typing import Any

import msgspec
import pytest
from sqlalchemy.ext.asyncio import AsyncEngine

from infra.postgres.migrate import migrate
from services.agent_worker.adapters.bindings import SqlBindings
from services.agent_worker.adapters.engine import make_engine, store_on
from services.agent_worker.ports import NewInput
from services.agent_worker.provider.sweep import ProviderMarkedSessions, Sweeper
from services.operator.audits.inbox import opened
from services.operator.audits.orphan_search import orphans
from services.operator.audits.provider import Provider as Reader
from shared.clock import utcnow
from tests.builders import turn
from tests.integration.simulator_client import Provider, provided

pytestmark = pytest.mark.integration


@pytest.fixture(scope="module")
async def provider() -> AsyncIterator[Provider]:
    async with provided() as provider:
        yield provider


@pytest.fixture(scope="module")
async def engine(postgres_url: str) -> AsyncIterator[AsyncEngine]:
    await asyncio.to_thread(migrate, postgres_url)
    engine = make_engine(postgres_url, pool=4)
    yield engine
    await engine.dispose()


async def bind(engine: AsyncEngine, session: str, to: str) -> None:
    """A head row of an idle session that is bound."""
    request = turn("t1").request
    key = ("acme", session)
    store = store_on(engine)
    await store.file([NewInput(key, "turn:t1", "turn.requested", msgspec.json.encode(request))])
    (head,) = await store.claim("test", 1, 60)
    state = msgspec.structs.replace(head.state, provider_session_id=to)
    await store.release(msgspec.structs.replace(head, state=state, taken=1, position=10**6), None)


async def archived(provider: Provider, session: str) -> bool:
    found: Any = await provider.beta.sessions.retrieve(session)
    return found.archived_at is not None


async def test_orphans_go_and_bound_and_foreign_sessions_stay(
    provider: Provider, engine: AsyncEngine, postgres_url: str
) -> None:
    mark = {"turnstile": "acme/ses_1"}
    bound = await provider.session(metadata=mark)
    left = await provider.session(metadata=mark)
    foreign = await provider.session(metadata={"turnstile": "acme/of-another-installation"})
    unmarked = await provider.session()
    await bind(engine, "ses_1", bound)

    now = utcnow()
    async with opened(postgres_url) as inbox:
        listed = [
            finding.provider_session_id
            async for finding in orphans(
                Reader(provider.client),
                inbox,
                now=now,
                since=now - timedelta(days=7),
                at_least=timedelta(0),
            )
        ]
    assert listed == [left]

    bindings = SqlBindings(engine)
    sweeper = Sweeper(
        ProviderMarkedSessions(provider.client),
        bindings,
        seconds=1,
        age=0,
        clock=utcnow,
        chance=lambda: 0.5,
    )
    assert await sweeper.sweep() == 1
    assert await archived(provider, left)
    for kept in (bound, foreign, unmarked):
        assert not await archived(provider, kept)
    assert await sweeper.sweep() == 0


async def test_only_one_worker_sweeps_at_a_time(engine: AsyncEngine) -> None:
    bindings = SqlBindings(engine)
    async with bindings.alone() as first, bindings.alone() as second:
        assert (first, second) == (True, False)
    async with bindings.alone() as again:
        assert again
