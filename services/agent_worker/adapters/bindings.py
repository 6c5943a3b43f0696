"""Head rows by provider session, and the lock of those who sweep what no row is bound to."""

from __future__ import annotations

from collections.abc import AsyncIterator, Collection, Mapping
from contextlib import asynccontextmanager

from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncEngine

from services.agent_worker.adapters.sql import connection_to
from services.agent_worker.ports import Bound, Key
from shared.session import state

# Of all locks in the database, the sweep's ("turnsweep" as a number nobody else takes).
SWEEP_LOCK = 7_475_726_273
READ = """
SELECT state, filed, taken FROM worker_heads WHERE tenant_id = :tenant AND session_id = :session
"""


class SqlBindings:
    """The Bindings port on an engine that the caller made and disposes of."""

    def __init__(self, engine: AsyncEngine) -> None:
        self._engine = engine.execution_options(isolation_level="AUTOCOMMIT")
        self._postgres = engine.dialect.name == "postgresql"

    async def of(self, keys: Collection[Key]) -> Mapping[Key, Bound]:
        """See Bindings.of."""
        found: dict[Key, Bound] = {}
        async with connection_to(self._engine) as connection:
            for key in keys:
                values = {"tenant": key[0], "session": key[1]}
                row = (await connection.execute(text(READ), values)).one_or_none()
                if row is not None:
                    known = state.decode(row.state) if row.state else state.initial(*key)
                    found[key] = Bound(
                        to=known.provider_session_id or "",
                        working=known.turn is not None or row.filed > row.taken,
                        erased=known.status == "erased",
                    )
        return found

    @asynccontextmanager
    async def alone(self) -> AsyncIterator[bool]:
        """See Bindings.alone: a lock of the connection's, so that one whose worker dies is free at once. SQLite has
        one process anyway."""
        if not self._postgres:
            yield True
            return
        name = {"lock": SWEEP_LOCK}
        async with connection_to(self._engine) as connection:
            mine = bool(
                (
                    await connection.execute(text("SELECT pg_try_advisory_lock(:lock)"), name)
                ).scalar()
            )
            try:
                yield mine
            finally:
                if mine:
                    await connection.execute(text("SELECT pg_advisory_unlock(:lock)"), name)
