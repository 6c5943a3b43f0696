"""Statements through asyncpg itself, on real PostgreSQL: errors are told as those of the engine are, and nothing is
left open."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

import asyncpg
import pytest
from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncEngine

from services.agent_worker.adapters.direct import beside
from services.agent_worker.adapters.engine import make_engine
from shared.errors import Transient
from tests.e2e.waiting import eventually

pytestmark = pytest.mark.integration

ITS_BACKEND = text("SELECT pg_backend_pid()")
BACKENDS = text("SELECT count(*) FROM pg_stat_activity WHERE datname = current_database()")
NOWHERE = "postgresql+asyncpg://nobody@127.0.0.1:1/none"


@pytest.fixture
async def engine(postgres_url: str) -> AsyncIterator[AsyncEngine]:
    engine = make_engine(postgres_url, pool=4)
    yield engine
    await engine.dispose()


async def test_no_database_is_transient() -> None:
    engine = make_engine(NOWHERE, pool=1)
    for _ in range(2):
        with pytest.raises(Transient) as raised:
            await beside(engine).rows(ITS_BACKEND, {})
        assert raised.value.reason == "database_away"
    await engine.dispose()


async def test_a_connection_that_was_cut_is_transient_and_replaced(engine: AsyncEngine) -> None:
    direct = beside(engine)
    (row,) = await direct.rows(ITS_BACKEND, {})
    waits = asyncio.create_task(direct.rows(text("SELECT pg_sleep(60)"), {}))
    cut = text(
        "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE wait_event = 'PgSleep'"
    )

    async def has_cut() -> bool:
        return bool(await direct.rows(cut, {}))

    await eventually(has_cut, "a statement that sleeps")
    with pytest.raises(Transient) as raised:
        await waits
    assert raised.value.reason == "database_away"
    assert len(await direct.rows(ITS_BACKEND, {})) == 1
    assert row.pg_backend_pid


async def test_a_connection_that_the_server_is_closing_is_transient_and_replaced(
    engine: AsyncEngine, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The server's farewell, on a connection that nobody uses, makes asyncpg refuse the next statement as a fault
    of its own; it ended workers when PostgreSQL was restarted."""
    direct = beside(engine)
    (before,) = await direct.rows(ITS_BACKEND, {})
    fetch = asyncpg.Connection.fetch

    async def refuse(*_: object, **__: object) -> None:
        monkeypatch.setattr(asyncpg.Connection, "fetch", fetch)
        raise asyncpg.InternalClientError(
            "cannot switch to state 12; another operation (2) is in progress"
        )

    monkeypatch.setattr(asyncpg.Connection, "fetch", refuse)
    with pytest.raises(Transient) as raised:
        await direct.rows(ITS_BACKEND, {})
    assert raised.value.reason == "database_away"
    (after,) = await direct.rows(ITS_BACKEND, {})
    assert after.pg_backend_pid != before.pg_backend_pid


async def test_what_is_refused_quotes_no_row(engine: AsyncEngine) -> None:
    await beside(engine).rows(text("CREATE TABLE said (what text CHECK (what <> 'secret'))"), {})
    with pytest.raises(asyncpg.CheckViolationError) as raised:
        await beside(engine).rows(text("INSERT INTO said VALUES (:what)"), {"what": "secret"})
    assert "secret" not in str(raised.value)


async def test_connections_are_bounded_and_gone_with_the_engine(postgres_url: str) -> None:
    engine, looking = make_engine(postgres_url, pool=4), make_engine(postgres_url, pool=2)
    many = (beside(engine).rows(text("SELECT pg_sleep(0.05)"), {}) for _ in range(8))
    await asyncio.gather(*many)
    assert await _backends(looking) == 3, "two, and the one that looks"
    await engine.dispose()
    await eventually(lambda: _only_one(looking), "a database without its connections")
    await looking.dispose()


async def _only_one(engine: AsyncEngine) -> bool:
    return await _backends(engine) == 1


async def _backends(engine: AsyncEngine) -> int:
    (row,) = await beside(engine).rows(BACKENDS, {})
    return int(row[0])
