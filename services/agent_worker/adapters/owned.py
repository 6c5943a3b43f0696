"""Owners on an engine that the caller made and disposes of. Raises Transient while the database is away."""

from __future__ import annotations

from collections.abc import Sequence

from sqlalchemy.ext.asyncio import AsyncEngine

from services.agent_worker.adapters.sql import connection_to
from shared.grouped import Grouped
from shared.ownership import Binding, Thing
from shared.tables.owned import bound, owners_of


class SqlOwned:
    """A batch of inputs shares one look-up, and what it binds one statement."""

    def __init__(self, engine: AsyncEngine) -> None:
        self._engine = engine.execution_options(isolation_level="AUTOCOMMIT")
        self.owner = Grouped(self._owners)
        self.bind = Grouped(self._bound)

    async def _owners(self, things: Sequence[Thing]) -> list[str | None]:
        async with connection_to(self._engine) as connection:
            return await owners_of(connection, things)

    async def _bound(self, bindings: Sequence[Binding]) -> list[str]:
        async with connection_to(self._engine) as connection:
            return await bound(connection, bindings)
