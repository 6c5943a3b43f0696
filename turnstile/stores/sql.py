"""A store in SQLite or PostgreSQL: four tables, one transaction a write.

On PostgreSQL a write is one statement, which is a transaction by itself. SQLite has one writer at a time.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from typing import Any

from sqlalchemy import Row, Select, delete, event, insert, select, update
from sqlalchemy.exc import DBAPIError, IntegrityError, OperationalError, ProgrammingError
from sqlalchemy.exc import TimeoutError as PoolTimeout
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine, create_async_engine

from turnstile.stores.port import NO_STATE, About, Append, Aside, Head, KeptProfile, Line
from turnstile.stores.sql_abouts import ABOUTS
from turnstile.stores.sql_postgres import removed_postgres, written_postgres
from turnstile.stores.sql_tables import ASIDE, EVENTS, METADATA, PROFILES, SESSIONS

S, E, P, A = SESSIONS.c, EVENTS.c, PROFILES.c, ASIDE.c
LISTED = (S.session, S.version, S.user_id, S.created_ms, S.updated_ms, S.expires_ms)


class SqlBackend:
    """The Backend port on an engine of `engine_on`."""

    away: tuple[type[BaseException], ...] = (OperationalError, DBAPIError, PoolTimeout, OSError)

    def __init__(self, engine: AsyncEngine) -> None:
        self.about: About = ABOUTS[engine.dialect.name]
        self.engine = engine
        self._reading = engine.execution_options(isolation_level="AUTOCOMMIT")
        self._sqlite = asyncio.Lock() if engine.dialect.name == "sqlite" else None
        self._postgres = engine.dialect.name == "postgresql"

    async def start(self) -> None:
        try:
            await self._make_tables()
        except (ProgrammingError, IntegrityError, OperationalError):
            await self._make_tables()  # another process made one of them at the same moment

    async def head(self, session: str) -> Head | None:
        rows = await self._rows(select(SESSIONS).where(S.session == session))
        return _head(rows[0], rows[0].state) if rows else None

    async def write(self, append: Append) -> bool:
        if self._postgres:
            async with self._reading.connect() as connection:
                return await written_postgres(connection, append)
        return await self._transaction(append)

    async def lines(self, session: str, after: int, limit: int) -> Sequence[Line]:
        query = select(E.seq, E.append_id, E.event).where(E.session == session, E.seq > after)
        rows = await self._rows(query.order_by(E.seq).limit(limit))
        return [Line(row.seq, row.append_id, row.event) for row in rows]

    async def heads(self, user: str | None, prefix: str, after: str, limit: int) -> Sequence[Head]:
        query = select(*LISTED).where(S.session > after).order_by(S.session).limit(limit)
        if user is not None:
            query = query.where(S.user_id == user)
        if prefix:
            # "~" comes after every character of an id.
            query = query.where(S.session >= prefix, S.session < prefix + "~")
        return [_head(row, NO_STATE) for row in await self._rows(query)]

    async def remove(self, session: str, version: int) -> bool:
        if self._postgres:
            async with self._reading.connect() as connection:
                return await removed_postgres(connection, session, version)
        async with self._begun() as connection:
            gone = await connection.execute(
                delete(SESSIONS).where(S.session == session, S.version == version)
            )
            if gone.rowcount == 0:
                return False
            await connection.execute(delete(EVENTS).where(E.session == session))
            await connection.execute(delete(ASIDE).where(A.session == session))
            return True

    async def due(self, before_ms: int, limit: int) -> Sequence[tuple[str, int]]:
        query = select(S.session, S.version).where(S.expires_ms <= before_ms).limit(limit)
        return [(row.session, row.version) for row in await self._rows(query)]

    async def profile(self, user: str) -> KeptProfile | None:
        rows = await self._rows(select(P.version, P.profile).where(P.user_id == user))
        return KeptProfile(rows[0].version, rows[0].profile) if rows else None

    async def write_profile(self, user: str, text: str | None, expected: int) -> bool:
        at = (P.user_id == user, P.version == expected)
        statement: Any
        if text is None:
            if expected == 0:
                return await self.profile(user) is None
            statement = delete(PROFILES).where(*at)
        elif expected:
            statement = update(PROFILES).where(*at).values(version=expected + 1, profile=text)
        else:
            statement = insert(PROFILES).values(user_id=user, version=1, profile=text)
        return await self._changed(statement)

    async def set_aside(self, aside: Aside) -> None:
        await self._changed(
            insert(ASIDE).values(
                session=aside.session,
                seq=aside.seq,
                reason=aside.reason,
                at_ms=aside.at_ms,
                record=aside.text,
            )
        )

    async def aside(self, session: str, limit: int) -> Sequence[Aside]:
        query = select(ASIDE).where(A.session == session).order_by(A.seq).limit(limit)
        rows = await self._rows(query)
        return [Aside(row.session, row.seq, row.reason, row.at_ms, row.record) for row in rows]

    async def close(self) -> None:
        await self.engine.dispose()

    async def _make_tables(self) -> None:
        async with self._begun() as connection:
            await connection.run_sync(METADATA.create_all)

    async def _rows(self, query: Select[Any]) -> Sequence[Row[Any]]:
        async with self._reading.connect() as connection:
            return list((await connection.execute(query)).fetchall())

    async def _changed(self, statement: Any) -> bool:
        """Whether the statement changed a row; a row that is there already is no error."""
        try:
            async with self._begun() as connection:
                return bool((await connection.execute(statement)).rowcount)
        except IntegrityError:
            return False

    async def _transaction(self, append: Append) -> bool:
        try:
            async with self._begun() as connection:
                return await _written(connection, append)
        except IntegrityError:
            return False  # another one made the session

    @asynccontextmanager
    async def _begun(self) -> AsyncIterator[AsyncConnection]:
        async with AsyncExitStack() as stack:
            if self._sqlite:
                await stack.enter_async_context(self._sqlite)
            yield await stack.enter_async_context(self.engine.begin())


def engine_on(url: str, *, pool: int, timeout: float, options: dict[str, Any]) -> AsyncEngine:
    """An engine whose errors leave out what was written. `url` names SQLAlchemy's dialect and driver."""
    if url.startswith("sqlite"):
        waits = {"timeout": timeout}
        engine = create_async_engine(
            url, connect_args=waits, hide_parameters=True, pool_size=pool, max_overflow=0
        )
        event.listen(engine.sync_engine, "connect", _sqlite_connected)
        event.listen(engine.sync_engine, "begin", _sqlite_begins)
        return engine
    return create_async_engine(
        url,
        pool_size=pool,
        max_overflow=0,
        pool_timeout=timeout,
        hide_parameters=True,
        connect_args={"timeout": timeout, **options},
        isolation_level="READ COMMITTED",
    )


async def _written(connection: AsyncConnection, append: Append) -> bool:
    """Write head and events in the transaction that has begun; False when the version is another."""
    head = append.head
    changes: dict[str, Any] = {
        "version": head.version,
        "updated_ms": head.updated_ms,
        "expires_ms": head.expires_ms,
    }
    if head.state != NO_STATE:
        changes["state"] = head.state
    if append.expected == 0:
        made = {"session": head.session, "user_id": head.user, "created_ms": head.created_ms}
        await connection.execute(insert(SESSIONS), changes | made)
    else:
        at = (S.session == head.session, S.version == append.expected)
        done = await connection.execute(update(SESSIONS).where(*at).values(**changes))
        if done.rowcount == 0:
            return False
    await connection.execute(
        insert(EVENTS),
        [
            {
                "session": head.session,
                "seq": line.seq,
                "append_id": line.append_id,
                "event": line.text,
            }
            for line in append.lines
        ],
    )
    return True


def _head(row: Row[Any], state: str) -> Head:
    return Head(
        row.session, row.version, row.user_id, state, row.created_ms, row.updated_ms, row.expires_ms
    )


def _sqlite_connected(connection: Any, _record: Any) -> None:
    """Readers go on while one writes, and a commit is on the disk. Transactions are begun by us, for writing."""
    connection.isolation_level = None
    cursor = connection.cursor()
    cursor.execute("PRAGMA journal_mode=WAL")
    cursor.execute("PRAGMA synchronous=FULL")
    cursor.close()


def _sqlite_begins(connection: Any) -> None:
    if connection.get_execution_options().get("isolation_level") != "AUTOCOMMIT":
        connection.exec_driver_sql("BEGIN IMMEDIATE")
