"""What several suites of one port share: the worlds they are run on."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest
from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncEngine

from infra.postgres.migrate import migrate_async
from services.agent_worker.adapters.engine import make_engine, store_on
from services.agent_worker.ports import Store
from shared.clock import utcnow
from tests.contract.provider_talk import Talk
from tests.contract.provider_worlds import MemoryWorld, WireWorld, World, wire_world
from tests.fakes.store import MemoryStore
from tests.stack import fresh_database


@pytest.fixture(scope="module", params=["memory", "sqlite", "postgres"])
async def engine(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory, postgres_server: str
) -> AsyncIterator[AsyncEngine | None]:
    """A migrated database; None for the store in memory."""
    if request.param == "memory":
        yield None
    elif request.param == "sqlite":
        file = tmp_path_factory.mktemp("store") / "new" / "worker.db"
        async with migrated(f"sqlite+aiosqlite:///{file}") as engine:
            yield engine
    else:
        async with fresh_database(postgres_server) as url, migrated(url) as engine:
            yield engine


@asynccontextmanager
async def migrated(url: str) -> AsyncIterator[AsyncEngine]:
    await migrate_async(url)
    engine = make_engine(url, pool=8)
    yield engine
    await engine.dispose()


@pytest.fixture
async def store(engine: AsyncEngine | None) -> Store:
    """An empty store."""
    if engine is None:
        return MemoryStore(utcnow)
    async with engine.begin() as connection:
        await connection.execute(text("DELETE FROM worker_inbox"))
        await connection.execute(text("DELETE FROM worker_heads"))
        for table in ("ledger", "caps", "cap_accounts", "reservations"):
            await connection.execute(text(f"DELETE FROM worker_{table}"))
    return store_on(engine)


@pytest.fixture(scope="module", params=["memory", "anthropic"])
async def world(request: pytest.FixtureRequest) -> AsyncIterator[World]:
    if request.param == "memory":
        yield MemoryWorld()
        return
    async with wire_world() as wire:
        yield wire


@pytest.fixture
def talk(world: World) -> Talk:
    return Talk(world)


@pytest.fixture(scope="module")
async def wire() -> AsyncIterator[WireWorld]:
    async with wire_world() as world:
        yield world


@pytest.fixture
async def healed(wire: WireWorld) -> AsyncIterator[WireWorld]:
    yield wire
    await wire.heal()
