"""Store on SQL: PostgreSQL, or SQLite where one process is enough.

The statements are the same on both but for the clock and `FOR UPDATE SKIP LOCKED`: SQLite has one writer and takes
its write lock at once (`BEGIN IMMEDIATE`), so nothing has to be skipped. Leases are measured by the database's
clock, so that workers whose clocks differ agree on who holds one.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from typing import Any

from msgspec.structs import replace
from sqlalchemy import TextClause, text
from sqlalchemy.exc import DBAPIError, InterfaceError, OperationalError
from sqlalchemy.exc import TimeoutError as PoolTimeout
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine

from services.agent_worker.adapters.rows import columns_of, head_of
from services.agent_worker.ports import Head, Key, NewInput, Unread
from shared.errors import Fenced, Transient
from shared.moment import parse
from shared.session.inputs import Filed, read_request

AWAY = (OperationalError, InterfaceError, PoolTimeout, OSError)
# Classes of SQLSTATE: no connection, too few resources, shutting down or starting up.
AWAY_CLASSES = ("08", "53", "57")
# SQLSTATE of a transaction that PostgreSQL ended for the sake of another one: nothing of it was done.
GAVE_WAY = frozenset({"40001", "40P01"})
# Python's order of texts, whatever the database's locale.
_BYTEWISE = 'tenant_id COLLATE "C", session_id COLLATE "C"'

FILE = """
INSERT INTO worker_inbox (tenant_id, session_id, input_id, kind, body, traceparent)
VALUES (:tenant_id, :session_id, :input_id, :kind, :body, :traceparent)
ON CONFLICT (tenant_id, session_id, input_id) DO NOTHING
"""
WAKE = """
INSERT INTO worker_heads
    (tenant_id, session_id, epoch, version, state, unsaid, todo, filed, taken, position, wake_at)
VALUES (:tenant_id, :session_id, 0, 0, :empty, :empty, :empty, :news, 0, 0, {now})
ON CONFLICT (tenant_id, session_id) DO UPDATE SET
    filed = worker_heads.filed + excluded.filed,
    wake_at = CASE WHEN worker_heads.lease_owner IS NULL THEN {now} ELSE worker_heads.wake_at END
"""
CLAIM = """
UPDATE worker_heads SET lease_owner = :owner, epoch = epoch + 1, wake_at = {now} + CAST(:lease AS double precision)
WHERE (tenant_id, session_id) IN (
    SELECT tenant_id, session_id FROM worker_heads
    WHERE wake_at <= {now} ORDER BY wake_at LIMIT :limit {skip_locked})
RETURNING tenant_id, session_id, epoch, version, state, unsaid, todo, taken, position
"""
# The rows are locked in the order in which `file` locks them: an update that takes them as it finds them deadlocks.
EXTEND = """
UPDATE worker_heads SET wake_at = {now} + CAST(:lease AS double precision)
WHERE (tenant_id, session_id) IN (
    SELECT tenant_id, session_id FROM worker_heads
    WHERE lease_owner = :owner {lock_in_order})
RETURNING tenant_id, session_id
"""
LET_GO = """
UPDATE worker_heads SET lease_owner = NULL, wake_at = {now} + CAST(:after AS double precision)
WHERE tenant_id = :tenant_id AND session_id = :session_id AND lease_owner = :owner
"""
WITH_NEWS = """
SELECT tenant_id, session_id FROM worker_heads WHERE lease_owner = :owner AND filed > taken
"""
UNREAD = """
SELECT position, input_id, kind, body, traceparent FROM worker_inbox
WHERE tenant_id = :tenant_id AND session_id = :session_id AND position > :after
ORDER BY position LIMIT 1000
"""
READ = """
SELECT input_id, kind, body, traceparent FROM worker_inbox
WHERE tenant_id = :tenant_id AND session_id = :session_id AND input_id = :input_id
"""
WRITE = """
UPDATE worker_heads SET state = :state, unsaid = :unsaid, todo = :todo, taken = :taken,
    position = :position, version = version + 1
WHERE tenant_id = :tenant_id AND session_id = :session_id AND epoch = :epoch AND version = :version
"""
RELEASE = """
UPDATE worker_heads SET state = :state, unsaid = :unsaid, todo = :todo, taken = :taken,
    position = :position, version = version + 1, lease_owner = NULL,
    wake_at = CASE WHEN filed > :taken THEN {now} ELSE CAST(:due_at AS double precision) END
WHERE tenant_id = :tenant_id AND session_id = :session_id AND epoch = :epoch AND version = :version
"""


class SqlStore:
    """The Store port on an engine that the caller made and disposes of."""

    def __init__(self, engine: AsyncEngine) -> None:
        self._engine = engine
        # One statement is its own transaction; AUTOCOMMIT saves two round trips for each.
        self._single = engine.execution_options(isolation_level="AUTOCOMMIT")
        postgres = engine.dialect.name == "postgresql"
        words = {
            "now": "CAST(extract(epoch FROM clock_timestamp()) AS double precision)"
            if postgres
            else "((julianday('now') - 2440587.5) * 86400.0)",
            "skip_locked": "FOR UPDATE SKIP LOCKED" if postgres else "",
            "lock_in_order": f"ORDER BY {_BYTEWISE} FOR UPDATE" if postgres else "",
        }

        def sql(template: str) -> TextClause:
            return text(template.format(**words))

        self._file, self._wake, self._claim = sql(FILE), sql(WAKE), sql(CLAIM)
        self._extend, self._with_news = sql(EXTEND), sql(WITH_NEWS)
        self._let_go = sql(LET_GO)
        self._unread, self._read = sql(UNREAD), sql(READ)
        self._write, self._release = sql(WRITE), sql(RELEASE)

    async def file(self, inputs: Sequence[NewInput]) -> set[Key]:
        """See Store.file. Sessions are touched in one order, so that two filings cannot deadlock."""
        news: dict[Key, int] = {}
        async with self._connection(self._engine) as connection, connection.begin():
            for new in sorted(inputs, key=lambda new: new.key):
                filed = await connection.execute(self._file, _inbox_row(new))
                if filed.rowcount:
                    news[new.key] = news.get(new.key, 0) + 1
            for key, count in news.items():
                row = {**_key(key), "news": count, "empty": b""}
                await connection.execute(self._wake, row)
        return set(news)

    async def claim(self, owner: str, limit: int, lease_seconds: float) -> list[Head]:
        """See Store.claim."""
        values = {"owner": owner, "limit": limit, "lease": lease_seconds}
        return [head_of(row) for row in await self._rows(self._claim, values)]

    async def extend(self, owner: str, lease_seconds: float) -> set[Key]:
        """See Store.extend."""
        rows = await self._rows(self._extend, {"owner": owner, "lease": lease_seconds})
        return {(row.tenant_id, row.session_id) for row in rows}

    async def let_go(self, owner: str, key: Key, after_seconds: float) -> None:
        """See Store.let_go."""
        async with self._connection(self._single) as connection:
            values = {**_key(key), "owner": owner, "after": after_seconds}
            await connection.execute(self._let_go, values)

    async def with_news(self, owner: str) -> set[Key]:
        """See Store.with_news."""
        rows = await self._rows(self._with_news, {"owner": owner})
        return {(row.tenant_id, row.session_id) for row in rows}

    async def unread(self, key: Key, after: int) -> list[Unread]:
        """See Store.unread; at most 1,000 at a time."""
        rows = await self._rows(self._unread, {**_key(key), "after": after})
        return [Unread(row.position, _filed(row)) for row in rows]

    async def read(self, key: Key, input_id: str) -> Filed:
        """See Store.read."""
        rows = await self._rows(self._read, {**_key(key), "input_id": input_id})
        if not rows:
            raise KeyError(input_id)
        return _filed(rows[0])

    async def write(self, head: Head) -> Head:
        """See Store.write."""
        await self._guarded(self._write, head, columns_of(head))
        return replace(head, version=head.version + 1)

    async def release(self, head: Head, due_at: str | None) -> None:
        """See Store.release."""
        due = parse(due_at).timestamp() if due_at else None
        await self._guarded(self._release, head, {**columns_of(head), "due_at": due})

    async def _guarded(self, statement: TextClause, head: Head, values: dict[str, Any]) -> None:
        async with self._connection(self._single) as connection:
            written = await connection.execute(statement, values)
        if written.rowcount != 1:
            raise Fenced(f"{head.key}: epoch {head.epoch} version {head.version} was overtaken")

    async def _rows(self, statement: TextClause, values: dict[str, Any]) -> Sequence[Any]:
        async with self._connection(self._single) as connection:
            return (await connection.execute(statement, values)).all()

    @asynccontextmanager
    async def _connection(self, engine: AsyncEngine) -> AsyncIterator[AsyncConnection]:
        try:
            async with engine.connect() as connection:
                yield connection
        except AWAY as error:
            raise Transient("database_away", _words(error)) from error
        except DBAPIError as error:
            sqlstate = getattr(error.orig, "sqlstate", None) or ""
            if error.connection_invalidated or sqlstate.startswith(AWAY_CLASSES):
                raise Transient("database_away", _words(error)) from error
            if sqlstate in GAVE_WAY:
                raise Transient("database_conflict", _words(error)) from error
            raise


def _words(error: BaseException) -> str:
    """The driver's own words: SQLAlchemy's would carry the statement's values, a user's text among them."""
    return str(getattr(error, "orig", error))[:200]


def _key(key: Key) -> dict[str, Any]:
    return {"tenant_id": key[0], "session_id": key[1]}


def _inbox_row(new: NewInput) -> dict[str, Any]:
    return {
        **_key(new.key),
        "input_id": new.input_id,
        "kind": new.kind,
        "body": new.body,
        "traceparent": new.traceparent,
    }


def _filed(row: Any) -> Filed:
    request = read_request(row.kind, row.body)
    return Filed(input_id=row.input_id, request=request, traceparent=row.traceparent)
