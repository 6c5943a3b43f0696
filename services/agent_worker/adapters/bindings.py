"""Head rows by provider session, and the lock of those who sweep what no row is bound to."""

from __future__ import annotations

from collections.abc import AsyncIterator, Collection, Mapping
from contextlib import asynccontextmanager

from sqlalchemy import BigInteger, func, literal
from sqlalchemy.ext.asyncio import AsyncEngine
from sqlmodel import select

from services.agent_worker.adapters.sql import connection_to, is_given, key_columns, values
from services.agent_worker.ports import Bound
from shared.orphans import used_by
from shared.session import commands, state
from shared.session.key import SessionKey
from shared.tables.worker import HEADS, HeadRow

# Of all locks in the database, the sweep's ("turnsweep" as a number nobody else takes).
SWEEP_LOCK = literal(7_475_726_273, BigInteger())
LOCK, UNLOCK = (
    select(func.pg_try_advisory_lock(SWEEP_LOCK)),
    select(func.pg_advisory_unlock(SWEEP_LOCK)),
)
READ = select(HeadRow.state, HeadRow.todo, HeadRow.filed, HeadRow.taken).where(*is_given(HEADS))


class SqlBindings:
    """The Bindings port on an engine that the caller made and disposes of."""

    def __init__(self, engine: AsyncEngine) -> None:
        self._engine = engine.execution_options(isolation_level="AUTOCOMMIT")
        self._postgres = engine.dialect.name == "postgresql"

    async def of(self, keys: Collection[SessionKey]) -> Mapping[SessionKey, Bound]:
        """See Bindings.of."""
        found: dict[SessionKey, Bound] = {}
        async with connection_to(self._engine) as connection:
            for key in keys:
                rows = await connection.execute(READ, values(key_columns(key)))
                row = rows.one_or_none()
                if row is not None:
                    known = state.decode(row.state) if row.state else state.initial(*key)
                    found[key] = Bound(
                        to=used_by(known, commands.decode(row.todo) if row.todo else ()),
                        working=known.may_adopt or row.filed > row.taken,
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
        async with connection_to(self._engine) as connection:
            mine = bool(await connection.scalar(LOCK))
            try:
                yield mine
            finally:
                if mine:
                    await connection.execute(UNLOCK)
