"""Which store fits the database?"""

from __future__ import annotations

from sqlalchemy.ext.asyncio import AsyncEngine

from services.agent_worker.adapters.postgres import PostgresStore
from services.agent_worker.adapters.sqlite import SqliteStore
from services.agent_worker.ports import Store


def store_on(engine: AsyncEngine) -> Store:
    """The store on `engine`, which the caller made and disposes of."""
    return PostgresStore(engine) if engine.dialect.name == "postgresql" else SqliteStore(engine)
