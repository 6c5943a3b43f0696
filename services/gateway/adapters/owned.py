"""Owners on PostgreSQL or SQLite, over the read model's engine."""

from __future__ import annotations

from collections.abc import Sequence

from sqlalchemy.ext.asyncio import AsyncEngine

from services.gateway.adapters.sql import bounded
from shared.grouped import Grouped
from shared.ownership import Binding, Thing
from shared.tables.owned import bound, owners_of


class SqlOwned:
    """Each call has a part in one statement of at most five seconds. Raises Transient (`database_unavailable`)."""

    def __init__(self, engine: AsyncEngine) -> None:
        self._engine = engine.execution_options(isolation_level="AUTOCOMMIT")
        self.owner = Grouped(self._owners)
        self.bind = Grouped(self._bound)

    async def _owners(self, things: Sequence[Thing]) -> list[str | None]:
        async with bounded(), self._engine.connect() as connection:
            return await owners_of(connection, things)

    async def _bound(self, bindings: Sequence[Binding]) -> list[str]:
        async with bounded(), self._engine.connect() as connection:
            return await bound(connection, bindings)
