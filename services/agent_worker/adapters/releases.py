"""Releases of agents as the operator wrote them."""

from __future__ import annotations

from collections.abc import Sequence

from sqlalchemy import bindparam, select, tuple_
from sqlalchemy.ext.asyncio import AsyncEngine

from services.agent_worker.adapters.sql import connection_to
from shared.grouped import Grouped
from shared.session.releases import Release
from shared.tables.releases import RELEASES

FIELDS = Release.__struct_fields__
WHOSE = (RELEASES.c.tenant_id, RELEASES.c.name)
READ = select(*(RELEASES.c[name] for name in FIELDS)).where(
    tuple_(*WHOSE).in_(bindparam("whose", expanding=True))
)
EVERYBODYS = ""


class SqlReleases:
    """The Releases port on an engine that the caller made and disposes of."""

    def __init__(self, engine: AsyncEngine) -> None:
        self._engine = engine.execution_options(isolation_level="AUTOCOMMIT")
        self._asked = Grouped(self._read)

    async def of(self, tenant_id: str, name: str) -> Release | None:
        """See Releases.of. Sessions that open at the same time share a read."""
        return await self._asked((tenant_id, name))

    async def has(self, tenant_id: str, name: str) -> bool:
        """Whether a session of the tenant may name it."""
        return await self.of(tenant_id, name) is not None

    async def _read(self, asked: Sequence[tuple[str, str]]) -> list[Release | None]:
        whose = dict.fromkeys([*asked, *((EVERYBODYS, name) for _, name in asked)])
        async with connection_to(self._engine) as connection:
            rows = (await connection.execute(READ, {"whose": list(whose)})).mappings().all()
        found = {(row["tenant_id"], row["name"]): Release(**row) for row in rows}
        return [found.get(one) or found.get((EVERYBODYS, one[1])) for one in asked]
