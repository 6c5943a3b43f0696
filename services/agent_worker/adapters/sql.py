"""What the stores on SQL share: statements, rows, leases, and how a database that is away is told from a mistake.

A statement is made of the tables' columns. Those here are the same on PostgreSQL and SQLite, where the clock is
spelled otherwise and nothing has to be skipped or locked, for there is one writer. A parameter's name is a column's
after `given_`: SQLAlchemy keeps the columns' own for what an update sets. Leases are measured by the database's
clock, so that workers whose clocks differ agree on who holds one.
"""

from __future__ import annotations

import time
from collections.abc import AsyncIterator, Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager, contextmanager
from typing import Any

import msgspec
from sqlalchemy import (
    BigInteger,
    BindParameter,
    ColumnElement,
    Double,
    Executable,
    FromClause,
    LargeBinary,
    String,
    bindparam,
    case,
    delete,
    func,
    literal,
    tuple_,
    update,
)
from sqlalchemy.exc import DBAPIError, InterfaceError, OperationalError
from sqlalchemy.exc import TimeoutError as PoolTimeout
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine
from sqlalchemy.ext.compiler import compiles
from sqlalchemy.sql.compiler import SQLCompiler
from sqlalchemy.sql.expression import FunctionElement
from sqlalchemy.types import TypeEngine
from sqlmodel import col, select

from services.agent_worker.ports import Head, NewInput, filed_of
from shared import metrics
from shared.errors import Fenced, Transient
from shared.moment import parse
from shared.session import commands, state
from shared.session.events import Event, read_event
from shared.session.inputs import Filed
from shared.session.key import SessionKey
from shared.tables.clock import Now
from shared.tables.worker import HEADS, INBOX, HeadRow, InboxRow

AWAY = (OperationalError, InterfaceError, PoolTimeout, OSError)
# Classes of SQLSTATE: no connection, too few resources, shutting down or starting up.
AWAY_CLASSES = ("08", "53", "57")
# SQLSTATE of a transaction that PostgreSQL ended for the sake of another one: nothing of it was done.
GAVE_WAY = frozenset({"40001", "40P01"})
_packed = msgspec.msgpack.Decoder(list[bytes])


def given(name: str, kind: TypeEngine[Any] | None = None) -> BindParameter[Any]:
    """A parameter, which `values` fills; without a kind it goes to the driver as it is."""
    return bindparam(f"given_{name}", type_=kind)


def values(row: Mapping[str, Any]) -> dict[str, Any]:
    """What a statement is given, by the names of its parameters."""
    return {f"given_{name}": value for name, value in row.items()}


def key_of(rows: FromClause) -> tuple[ColumnElement[str], ColumnElement[str]]:
    """A session's key among the columns of a table or a query."""
    return rows.c.tenant_id, rows.c.session_id


def is_given(rows: FromClause, *names: str) -> tuple[ColumnElement[bool], ...]:
    """The row is that of the session given, and has what is given in the columns of these names."""
    return tuple(
        rows.c[name] == given(name, rows.c[name].type)
        for name in ("tenant_id", "session_id", *names)
    )


class Bytewise(FunctionElement[str]):
    """A text that sorts as Python's texts do, whatever the locale of PostgreSQL; SQLite's do so anyway."""

    type = String()
    inherit_cache = True


@compiles(Bytewise, "postgresql")
def _postgres_bytewise(element: Bytewise, compiler: SQLCompiler, **options: Any) -> str:
    return f'{compiler.process(element.clauses, **options)} COLLATE "C"'


@compiles(Bytewise, "sqlite")
def _sqlite_bytewise(element: Bytewise, compiler: SQLCompiler, **options: Any) -> str:
    return compiler.process(element.clauses, **options)


def in_order(rows: FromClause) -> tuple[ColumnElement[str], ...]:
    """The order of sessions in which every statement that locks rows of several takes them: none deadlocks."""
    return tuple(Bytewise(column) for column in key_of(rows))


# What a driver keeps of a session, and what a head is made of.
KEPT = ("state", "unsaid", "todo", "taken", "position")
HEAD = ("tenant_id", "session_id", "epoch", "version", *KEPT)
# The head of a session that is new, but for its key.
_none, _nothing = literal(0, BigInteger()), literal(b"", LargeBinary())
NEW_HEAD = {
    **dict.fromkeys(("epoch", "version", "filed", "taken", "position"), _none),
    **dict.fromkeys(("state", "unsaid", "todo"), _nothing),
}
OWNER = given("owner", String())
LEASED = Now() + given("lease", Double())
KEEP = {name: given(name, HEADS.c[name].type) for name in KEPT}
_due, _own = HEADS.alias("due"), HEADS.alias("own")
# Asked once a statement. Compared as it is, the clock is asked for each row: no index helps then, and whoever looks
# for what is due reads all sessions there are.
NOW = select(Now()).scalar_subquery()

CLAIM = (
    update(HEADS)
    .values(lease_owner=OWNER, epoch=HEADS.c.epoch + 1, wake_at=LEASED)
    .where(
        tuple_(*key_of(HEADS)).in_(
            select(*key_of(_due))
            .where(_due.c.wake_at <= NOW)
            .order_by(_due.c.wake_at)
            .limit(given("limit", BigInteger()))
            .with_for_update(skip_locked=True)
        )
    )
    .returning(*(HEADS.c[name] for name in HEAD))
)
# An update that takes rows as it finds them would deadlock with `file`.
EXTEND = (
    update(HEADS)
    .values(wake_at=LEASED)
    .where(
        tuple_(*key_of(HEADS)).in_(
            select(*key_of(_own))
            .where(_own.c.lease_owner == OWNER)
            .order_by(*in_order(_own))
            .with_for_update()
        )
    )
    .returning(*key_of(HEADS), HEADS.c.epoch)
)
LET_GO = (
    update(HEADS)
    .values(lease_owner=None, wake_at=Now() + given("after", Double()))
    .where(*is_given(HEADS), HEADS.c.lease_owner == OWNER)
)
WRITE = (
    update(HEADS)
    .values(KEEP | {"version": HEADS.c.version + 1})
    .where(*is_given(HEADS, "epoch", "version"))
)
RELEASE = WRITE.values(
    lease_owner=None,
    wake_at=case((HEADS.c.filed > KEEP["taken"], Now()), else_=given("due_at", Double())),
)
ERASE_INBOX = delete(INBOX).where(
    *is_given(INBOX), INBOX.c.position <= given("position", BigInteger())
)
WITH_NEWS = select(HeadRow.tenant_id, HeadRow.session_id).where(
    col(HeadRow.lease_owner) == OWNER, col(HeadRow.filed) > HeadRow.taken
)
DUE = select(func.count()).select_from(HeadRow).where(col(HeadRow.wake_at) <= NOW)
READ = select(InboxRow).where(*is_given(INBOX, "input_id"))


class SqlLeases:
    """The lease part of the Store port, on an engine that the caller made and disposes of."""

    def __init__(self, engine: AsyncEngine) -> None:
        self._engine = engine
        # One statement is its own transaction; AUTOCOMMIT saves two round trips for each.
        self._single = engine.execution_options(isolation_level="AUTOCOMMIT")

    async def claim(self, owner: str, limit: int, lease_seconds: float) -> list[Head]:
        """See Store.claim."""
        about = {"owner": owner, "limit": limit, "lease": lease_seconds}
        return [head_of(row) for row in await self._rows(CLAIM, about)]

    async def extend(self, owner: str, lease_seconds: float) -> dict[SessionKey, int]:
        """See Store.extend."""
        rows = await self._rows(EXTEND, {"owner": owner, "lease": lease_seconds})
        return {(row.tenant_id, row.session_id): row.epoch for row in rows}

    async def let_go(self, owner: str, keys: Collection[SessionKey], after_seconds: float) -> None:
        """See Store.let_go."""
        if not keys:
            return
        about = {"owner": owner, "after": after_seconds}
        # In the order of `in_order`.
        rows = [values({**key_columns(key), **about}) for key in sorted(keys)]
        async with self._connection(self._single) as connection:
            await connection.execute(LET_GO, rows)

    async def with_news(self, owner: str) -> set[SessionKey]:
        """See Store.with_news."""
        rows = await self._rows(WITH_NEWS, {"owner": owner})
        return {(row.tenant_id, row.session_id) for row in rows}

    async def due(self) -> int:
        """How many sessions have something to do and no driver, by now."""
        (row,) = await self._rows(DUE, {})
        return int(row[0])

    async def read(self, key: SessionKey, input_id: str) -> Filed:
        """See Store.read."""
        rows = await self._rows(READ, {**key_columns(key), "input_id": input_id})
        if not rows:
            raise KeyError(input_id)
        return filed_of(rows[0])

    async def erase(self, head: Head, due_at: str | None) -> None:
        """See Store.erase."""
        inbox = {**key_columns(head.key), "position": head.position}
        async with self._connection(self._engine) as connection, connection.begin():
            released = await connection.execute(RELEASE, values(released_columns(head, due_at)))
            if released.rowcount != 1:
                raise fenced(head)
            await connection.execute(ERASE_INBOX, values(inbox))

    async def _rows(self, statement: Executable, row: Mapping[str, Any]) -> Sequence[Any]:
        async with self._connection(self._single) as connection:
            return (await connection.execute(statement, values(row))).all()

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


def key_columns(key: SessionKey) -> dict[str, Any]:
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


def pack(events: tuple[Event, ...]) -> bytes:
    """Events as the row keeps them: their exact JSON, so that saying them again says the same bytes."""
    return msgspec.msgpack.encode([msgspec.json.encode(event) for event in events])


def unpack(data: bytes) -> tuple[Event, ...]:
    """The events of a row."""
    return tuple(read_event(value) for value in _packed.decode(data)) if data else ()


def head_of(row: Any) -> Head:
    """A claimed row (any object with the columns as attributes) as a Head."""
    key: SessionKey = (row.tenant_id, row.session_id)
    return Head(
        key=key,
        epoch=row.epoch,
        version=row.version,
        state=state.decode(row.state) if row.state else state.initial(*key),
        unsaid=unpack(row.unsaid),
        todo=commands.decode(row.todo) if row.todo else (),
        position=row.position,
        taken=row.taken,
    )


def columns_of(head: Head) -> dict[str, Any]:
    """What a write sets, and what it is guarded by."""
    return {
        **key_columns(head.key),
        "epoch": head.epoch,
        "version": head.version,
        "state": state.encode(head.state),
        "unsaid": pack(head.unsaid),
        "todo": commands.encode(head.todo) if head.todo else b"",
        "taken": head.taken,
        "position": head.position,
    }


def released_columns(head: Head, due_at: str | None) -> dict[str, Any]:
    """What the write that gives a head back sets, and what it is guarded by."""
    return {**columns_of(head), "due_at": parse(due_at).timestamp() if due_at else None}
