"""What the stores on SQL share: leases, and how a database that is away is told from a mistake.

The statements are the same on PostgreSQL and SQLite but for the clock and `FOR UPDATE SKIP LOCKED`: SQLite has one
writer, so nothing has to be skipped. Leases are measured by the database's clock, so that workers whose clocks
differ agree on who holds one.
"""

from __future__ import annotations

import time
from collections.abc import AsyncIterator, Collection, Iterable, Iterator, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager, contextmanager
from typing import Any

from sqlalchemy import TextClause, text
from sqlalchemy.exc import DBAPIError, InterfaceError, OperationalError
from sqlalchemy.exc import TimeoutError as PoolTimeout
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine

from services.agent_worker.adapters.rows import columns_of, head_of
from services.agent_worker.ports import Head, Key, NewInput
from shared import metrics
from shared.errors import Fenced, Transient
from shared.moment import parse
from shared.session.inputs import Filed, read_request

AWAY = (OperationalError, InterfaceError, PoolTimeout, OSError)
# Classes of SQLSTATE: no connection, too few resources, shutting down or starting up.
AWAY_CLASSES = ("08", "53", "57")
# SQLSTATE of a transaction that PostgreSQL ended for the sake of another one: nothing of it was done.
GAVE_WAY = frozenset({"40001", "40P01"})
POSTGRES_NOW = "CAST(extract(epoch FROM clock_timestamp()) AS double precision)"
SQLITE_NOW = "((julianday('now') - 2440587.5) * 86400.0)"
# Python's order of texts, whatever the database's locale.
_BYTEWISE = 'tenant_id COLLATE "C", session_id COLLATE "C"'

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
DUE = """
SELECT count(*) FROM worker_heads WHERE wake_at <= {now}
"""
ERASE_HEAD = """
UPDATE worker_heads SET state = :state, unsaid = :unsaid, todo = :todo, taken = :taken,
    position = :position, version = version + 1, lease_owner = NULL,
    wake_at = CASE WHEN filed > :taken THEN {now} ELSE CAST(:due_at AS double precision) END
WHERE tenant_id = :tenant_id AND session_id = :session_id AND epoch = :epoch AND version = :version
"""
ERASE_INBOX = """
DELETE FROM worker_inbox
WHERE tenant_id = :tenant_id AND session_id = :session_id AND position <= :position
"""
READ = """
SELECT input_id, kind, body, traceparent, received_at FROM worker_inbox
WHERE tenant_id = :tenant_id AND session_id = :session_id AND input_id = :input_id
"""


class SqlLeases:
    """The lease part of the Store port, on an engine that the caller made and disposes of."""

    def __init__(self, engine: AsyncEngine) -> None:
        self._engine = engine
        # One statement is its own transaction; AUTOCOMMIT saves two round trips for each.
        self._single = engine.execution_options(isolation_level="AUTOCOMMIT")
        postgres = engine.dialect.name == "postgresql"
        words = {
            "now": POSTGRES_NOW if postgres else SQLITE_NOW,
            "skip_locked": "FOR UPDATE SKIP LOCKED" if postgres else "",
            "lock_in_order": f"ORDER BY {_BYTEWISE} FOR UPDATE" if postgres else "",
        }

        def sql(template: str) -> TextClause:
            return text(template.format(**words))

        self._claim, self._read = sql(CLAIM), sql(READ)
        self._extend, self._with_news = sql(EXTEND), sql(WITH_NEWS)
        self._let_go, self._due = sql(LET_GO), sql(DUE)
        self._erase_head, self._erase_inbox = sql(ERASE_HEAD), sql(ERASE_INBOX)

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
            values = {**key_columns(key), "owner": owner, "after": after_seconds}
            await connection.execute(self._let_go, values)

    async def with_news(self, owner: str) -> set[Key]:
        """See Store.with_news."""
        rows = await self._rows(self._with_news, {"owner": owner})
        return {(row.tenant_id, row.session_id) for row in rows}

    async def due(self) -> int:
        """How many sessions have something to do and no driver, by now."""
        (row,) = await self._rows(self._due, {})
        return int(row[0])

    async def read(self, key: Key, input_id: str) -> Filed:
        """See Store.read."""
        rows = await self._rows(self._read, {**key_columns(key), "input_id": input_id})
        if not rows:
            raise KeyError(input_id)
        return filed_of(rows[0])

    async def erase(self, head: Head, due_at: str | None) -> None:
        """See Store.erase."""
        values = {**columns_of(head), "due_at": parse(due_at).timestamp() if due_at else None}
        inbox = {**key_columns(head.key), "position": head.position}
        async with self._connection(self._engine) as connection, connection.begin():
            if (await connection.execute(self._erase_head, values)).rowcount != 1:
                raise fenced(head)
            await connection.execute(self._erase_inbox, inbox)

    async def _rows(self, statement: TextClause, values: dict[str, Any]) -> Sequence[Any]:
        async with self._connection(self._single) as connection:
            return (await connection.execute(statement, values)).all()

    def _connection(self, engine: AsyncEngine) -> AbstractAsyncContextManager[AsyncConnection]:
        return connection_to(engine)


@asynccontextmanager
async def connection_to(engine: AsyncEngine) -> AsyncIterator[AsyncConnection]:
    """A connection of the engine. Raises Transient for what will pass: no database, or one that gave way."""
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


@contextmanager
def writing() -> Iterator[None]:
    """Measure the write of head rows inside."""
    began = time.perf_counter()
    yield
    metrics.observe("turnstile_head_write_seconds", time.perf_counter() - began)


def fenced(head: Head) -> Fenced:
    """What a write of a head raises that is not the row's successor any more."""
    metrics.inc("turnstile_head_conflicts_total")
    return Fenced(f"{head.key}: epoch {head.epoch} version {head.version} was overtaken")


def _words(error: BaseException) -> str:
    """The driver's own words: SQLAlchemy's would carry the statement's values, a user's text among them."""
    return str(getattr(error, "orig", error))[:200]


def count_filed(inputs: Iterable[NewInput], filed: Iterable[NewInput]) -> None:
    """Count what was filed, and what had been before."""
    new = set(map(id, filed))
    for asked in inputs:
        if id(asked) in new:
            metrics.inc("turnstile_inputs_filed_total", type=asked.kind)
        else:
            metrics.inc("turnstile_inputs_repeated_total", type=asked.kind)


def left_over(inputs: Sequence[NewInput], repeats: Collection[int]) -> list[NewInput]:
    """The inputs without those whose `id()` is among the repeats, which are counted."""
    for new in inputs:
        if id(new) in repeats:
            metrics.inc("turnstile_inputs_repeated_total", type=new.kind)
    return [new for new in inputs if id(new) not in repeats]


def key_columns(key: Key) -> dict[str, Any]:
    """A session by the columns of its key."""
    return {"tenant_id": key[0], "session_id": key[1]}


def inbox_row(new: NewInput) -> dict[str, Any]:
    """An input by the columns of the inbox."""
    return {
        **key_columns(new.key),
        "input_id": new.input_id,
        "kind": new.kind,
        "body": new.body,
        "traceparent": new.traceparent,
        "received_at": new.received_at,
    }


def filed_of(row: Any) -> Filed:
    """An inbox row as the input it holds."""
    request = read_request(row.kind, row.body)
    return Filed(
        input_id=row.input_id,
        request=request,
        traceparent=row.traceparent,
        received_at=row.received_at,
    )
