"""Profiles as the gateway wrote them: the one table of another service that a worker reads."""

from __future__ import annotations

from collections.abc import Sequence

from sqlalchemy import bindparam, tuple_
from sqlalchemy.ext.asyncio import AsyncEngine
from sqlmodel import select

from services.agent_worker.adapters.sql import connection_to
from shared.grouped import Grouped
from shared.tables.profiles import ProfileRow

WHO = (ProfileRow.tenant_id, ProfileRow.user_id)
READ = select(*WHO, ProfileRow.body).where(tuple_(*WHO).in_(bindparam("who", expanding=True)))


class SqlProfiles:
    """The Profiles port on an engine that the caller made and disposes of."""

    def __init__(self, engine: AsyncEngine) -> None:
        self._engine = engine.execution_options(isolation_level="AUTOCOMMIT")
        self._asked = Grouped(self._read)

    async def of(self, tenant_id: str, user_id: str) -> str:
        """See Profiles.of. Sessions that open at the same time share a read."""
        return await self._asked((tenant_id, user_id))

    async def _read(self, who: Sequence[tuple[str, str]]) -> list[str]:
        async with connection_to(self._engine) as connection:
            rows = await connection.execute(READ, {"who": list(dict.fromkeys(who))})
            found = {(row.tenant_id, row.user_id): row.body for row in rows}
        return [found.get(one, "") for one in who]
