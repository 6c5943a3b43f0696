"""ReleaseStore on PostgreSQL or SQLite, over the read model's engine."""

from __future__ import annotations

from collections.abc import Sequence

from sqlalchemy import select
from sqlalchemy.ext.asyncio import AsyncEngine

from services.gateway.adapters.sql import bounded
from shared.session.releases import Release
from shared.tables.releases import RELEASES

FIELDS = Release.__struct_fields__
EVERYBODYS = ""


class SqlReleases:
    """Each call is one statement of at most five seconds. Raises Transient (`database_unavailable`)."""

    def __init__(self, engine: AsyncEngine) -> None:
        self._engine = engine.execution_options(isolation_level="AUTOCOMMIT")

    async def has(self, tenant_id: str, name: str) -> bool:
        """Whether a session of the tenant may name it."""
        return any(one.name == name for one in await self.releases(tenant_id))

    async def releases(self, tenant_id: str) -> Sequence[Release]:
        """See ReleaseStore.releases."""
        query = select(*(RELEASES.c[name] for name in FIELDS)).where(
            RELEASES.c.tenant_id.in_([tenant_id, EVERYBODYS])
        )
        async with bounded(), self._engine.connect() as connection:
            return [Release(**row) for row in (await connection.execute(query)).mappings()]
