"""Bindings on PostgreSQL or SQLite, over the read model's engine."""

from __future__ import annotations

from collections.abc import Sequence

from sqlalchemy.ext.asyncio import AsyncEngine

from services.gateway.adapters.sql import bounded
from shared.grouped import Grouped
from shared.ownership import Binding, Thing
from shared.session.references import Kind
from shared.tables.owned import binding_of, bindings_of, bound, owners_of, unbind


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

    async def binding(self, thing: Thing) -> Binding | None:
        """See Bindings.binding."""
        async with bounded(), self._engine.connect() as connection:
            return await binding_of(connection, thing)

    async def of_tenant(
        self, tenant_id: str, kind: Kind, after: str, limit: int
    ) -> Sequence[Binding]:
        """See Bindings.of_tenant."""
        async with bounded(), self._engine.connect() as connection:
            return await bindings_of(connection, tenant_id, kind, after, limit)

    async def unbind(self, thing: Thing) -> None:
        """See Bindings.unbind."""
        async with bounded(), self._engine.connect() as connection:
            await unbind(connection, thing)
