"""Owners and DefaultVaults on an engine that the caller made and disposes of. Transient without a database."""

from __future__ import annotations

from collections.abc import Sequence

from sqlalchemy.ext.asyncio import AsyncEngine

from services.agent_worker.adapters.sql import connection_to
from shared.grouped import Grouped
from shared.ownership import Binding, Thing
from shared.tables.owned import Whose, bindings_for, bound, owners_of


class SqlOwned:
    """A batch of inputs shares one look-up, and what it binds one statement."""

    def __init__(self, engine: AsyncEngine) -> None:
        self._engine = engine.execution_options(isolation_level="AUTOCOMMIT")
        self.owner = Grouped(self._owners)
        self.bind = Grouped(self._bound)
        self._vaults = Grouped(self._vaults_for)

    async def _owners(self, things: Sequence[Thing]) -> list[str | None]:
        async with connection_to(self._engine) as connection:
            return await owners_of(connection, things)

    async def _bound(self, bindings: Sequence[Binding]) -> list[str]:
        async with connection_to(self._engine) as connection:
            return await bound(connection, bindings)

    async def of(self, tenant_id: str, project: str, user_id: str) -> Sequence[Binding]:
        """See DefaultVaults.of. Sessions that open at the same time share a read."""
        return await self._vaults((tenant_id, project, user_id))

    async def _vaults_for(self, asked: Sequence[Whose]) -> list[list[Binding]]:
        wider = [_wider(one) for one in asked]
        every = list(dict.fromkeys(whose for some in wider for whose in some))
        async with connection_to(self._engine) as connection:
            found = await bindings_for(connection, "vault", every)
        return [
            [one for one in found if (one.tenant_id, one.project, one.user_id) in some]
            for some in wider
        ]


def _wider(whose: Whose) -> list[Whose]:
    """All that a session of this project and user may have: what is for both, for one, for all of the tenant."""
    tenant, project, user = whose
    return [(tenant, p, u) for p in {"", project} for u in {"", user}]
