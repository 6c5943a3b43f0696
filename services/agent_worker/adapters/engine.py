"""A database engine from a URL, PostgreSQL as it is, SQLite so that writers queue instead of failing; its store."""

from __future__ import annotations

from typing import Any

from sqlalchemy import event
from sqlalchemy.ext.asyncio import AsyncEngine, create_async_engine
from sqlmodel import select

from services.agent_worker.adapters.direct import (
    CONNECT_S,
    PATIENCE_S,
    STATEMENT_S,
    beside,
    put_beside,
)
from services.agent_worker.adapters.postgres import PostgresStore
from services.agent_worker.adapters.sqlite import SqliteStore
from shared.health import Check
from shared.tables.worker import HeadRow


def make_engine(url: str, *, pool: int) -> AsyncEngine:
    """An engine; the caller disposes of it. `pool` bounds connections (SQLite: one writer at a time anyway), half
    of them the store's own (see `direct.py`); there are two at least.

    Its errors leave out what a statement was given: that holds what users said, and errors are logged.
    """
    if url.startswith("sqlite"):
        engine = create_async_engine(url, connect_args={"timeout": 10.0}, hide_parameters=True)
        event.listen(engine.sync_engine, "connect", _sqlite_connected)
        event.listen(engine.sync_engine, "begin", _sqlite_begins)
        return engine
    direct = (pool + 1) // 2
    engine = create_async_engine(
        url,
        pool_size=max(1, pool - direct),
        max_overflow=0,
        pool_timeout=PATIENCE_S,
        hide_parameters=True,
        connect_args={"timeout": CONNECT_S, "command_timeout": STATEMENT_S},
    )
    put_beside(engine, direct)
    return engine


def store_on(engine: AsyncEngine) -> PostgresStore | SqliteStore:
    """The Store port on `engine`, which the caller made and disposes of."""
    if engine.dialect.name != "postgresql":
        return SqliteStore(engine)
    return PostgresStore(engine, beside(engine))


def _sqlite_connected(connection: Any, _record: Any) -> None:
    """WAL lets readers go on while one writes. Transactions are begun by us, at once for writing: WAL and a busy
    timeout alone failed 48 of 60 concurrent read-modify-writes when measured."""
    connection.isolation_level = None
    cursor = connection.cursor()
    cursor.execute("PRAGMA journal_mode=WAL")
    cursor.execute("PRAGMA synchronous=NORMAL")
    cursor.close()


def _sqlite_begins(connection: Any) -> None:
    if connection.get_execution_options().get("isolation_level") != "AUTOCOMMIT":
        connection.exec_driver_sql("BEGIN IMMEDIATE")


def database_answers(engine: AsyncEngine) -> Check:
    """The readiness check of the database and its tables; it raises what its client raises."""

    async def check() -> None:
        async with engine.connect() as connection:
            await connection.execute(select(HeadRow.version).limit(1))

    return check
