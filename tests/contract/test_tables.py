"""The tables that are declared are those that the migrations make, on SQLite and on PostgreSQL."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext
from sqlalchemy import Column, Connection, MetaData, String, Table, inspect
from sqlalchemy.ext.asyncio import AsyncEngine, create_async_engine
from sqlmodel import AutoString

from infra.postgres.migrate import TREES, migrate_async
from shared.tables import connects, gateway, owned, profiles, releases, worker
from tests.stack import fresh_database

pytestmark = pytest.mark.contract
VERSIONS = {f"{tree}_alembic_version" for tree in TREES}


@pytest.fixture(params=["sqlite", "postgres"])
async def engine(
    request: pytest.FixtureRequest, tmp_path: Path, postgres_server: str
) -> AsyncIterator[AsyncEngine]:
    """A migrated database."""
    if request.param == "sqlite":
        async with _migrated(f"sqlite+aiosqlite:///{tmp_path}/tables.db") as engine:
            yield engine
    else:
        async with fresh_database(postgres_server) as url, _migrated(url) as engine:
            yield engine


@asynccontextmanager
async def _migrated(url: str) -> AsyncIterator[AsyncEngine]:
    await migrate_async(url)
    engine = create_async_engine(url)
    yield engine
    await engine.dispose()


async def test_what_is_declared_is_what_the_migrations_make(engine: AsyncEngine) -> None:
    declared = _declared()
    keys = {t.name: [column.name for column in t.primary_key] for t in declared.tables.values()}
    async with engine.connect() as connection:
        different = await connection.run_sync(_differences, declared)
        assert not different, different
        assert await connection.run_sync(_keys) == keys


@pytest.mark.parametrize(
    ("table", "change"),
    [
        ("worker_heads", lambda t: setattr(t.c.state, "nullable", True)),
        ("worker_heads", lambda t: setattr(t.c.wake_at, "type", String(40))),
        ("worker_inbox", lambda t: setattr(t.c.received_at, "server_default", None)),
        ("worker_inbox", lambda t: t.indexes.pop()),
        ("gateway_turns", lambda t: t.append_column(Column("more", String(1)))),
        ("gateway_sessions", lambda t: t.metadata.remove(t)),
    ],
)
async def test_a_table_that_drifts_is_seen(
    engine: AsyncEngine, table: str, change: Callable[[Table], Any]
) -> None:
    """Column, type, nullability, default, index, table: each alone."""
    declared = _declared()
    change(declared.tables[table])
    async with engine.connect() as connection:
        assert await connection.run_sync(_differences, declared)


def _declared() -> MetaData:
    """The tables of both services, copied."""
    declared = MetaData()
    for metadata in (
        worker.METADATA,
        gateway.METADATA,
        connects.METADATA,
        owned.METADATA,
        profiles.METADATA,
        releases.METADATA,
    ):
        for table in metadata.tables.values():
            table.to_metadata(declared)
    return declared


def _differences(connection: Connection, declared: MetaData) -> Sequence[Any]:
    options = {
        "compare_type": _compare_type,
        "compare_server_default": True,
        "include_name": lambda name, kind, _: not (kind == "table" and name in VERSIONS),
    }
    context = MigrationContext.configure(connection, opts=options)
    found: Sequence[Any] = compare_metadata(context, declared)
    return found


def _compare_type(
    context: MigrationContext, _found: Any, _declared: Any, found: Any, declared: Any
) -> bool | None:
    """SQLite bounds no text, and its migrations leave the length of one that grew. None: as Alembic finds."""
    texts = isinstance(found, String) and isinstance(declared, AutoString)
    return False if texts and context.dialect.name == "sqlite" else None


def _keys(connection: Connection) -> dict[str, list[str]]:
    found = inspect(connection)
    names = set(found.get_table_names()) - VERSIONS
    return {name: found.get_pk_constraint(name)["constrained_columns"] for name in names}
