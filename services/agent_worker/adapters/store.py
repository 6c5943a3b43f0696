"""The store for a database: PostgreSQL's or SQLite's."""

from __future__ import annotations

from sqlalchemy.ext.asyncio import AsyncEngine

from services.agent_worker.adapters.postgres import PostgresStore
from services.agent_worker.adapters.sqlite import SqliteStore


def store_on(engine: AsyncEngine) -> PostgresStore | SqliteStore:
    """The Store port on `engine`, which the caller made and disposes of."""
    return PostgresStore(engine) if engine.dialect.name == "postgresql" else SqliteStore(engine)
