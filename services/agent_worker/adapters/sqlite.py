"""The store on SQLite, where one process is enough: one writer, which takes its write lock at once."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

from msgspec.structs import replace
from sqlalchemy import BigInteger, Executable, case, func
from sqlalchemy.dialects.sqlite import insert
from sqlalchemy.ext.asyncio import AsyncConnection
from sqlmodel import col, select

from services.agent_worker.adapters.caps import write_with
from services.agent_worker.adapters.ledger import ledger_rows
from services.agent_worker.adapters.sql import (
    KEEP,
    NEW_HEAD,
    RELEASE,
    WRITE,
    SqlLeases,
    columns_of,
    count_filed,
    fenced,
    given,
    inbox_row,
    is_given,
    key_columns,
    key_of,
    left_over,
    released_columns,
    values,
    writing,
)
from services.agent_worker.ports import Head, Money, NewInput, Unread, filed_of
from shared.session.key import SessionKey
from shared.tables.clock import Now
from shared.tables.worker import HEADS, INBOX, LEDGER, InboxRow

_once = [*key_of(INBOX), INBOX.c.input_id]
FILE = (
    insert(INBOX)
    .on_conflict_do_nothing(index_elements=_once)
    .execution_options(preserve_rowcount=True)
)
KNOWN = select(InboxRow.kind, InboxRow.body).where(*is_given(INBOX, "input_id"))
_new = insert(HEADS).values(
    NEW_HEAD
    | {name: given(name, HEADS.c[name].type) for name in ("tenant_id", "session_id", "filed")}
    | {"wake_at": Now()}
)
WAKE = _new.on_conflict_do_update(
    index_elements=key_of(HEADS),
    set_={
        "filed": HEADS.c.filed + _new.excluded.filed,
        "wake_at": case((HEADS.c.lease_owner.is_(None), Now()), else_=HEADS.c.wake_at),
    },
)
UNREAD = (
    select(InboxRow)
    .where(*is_given(INBOX), col(InboxRow.position) > given("after", BigInteger()))
    .order_by(col(InboxRow.position))
    .limit(1000)
)
TAKE_IN = (
    WRITE.where(HEADS.c.filed == KEEP["taken"])
    .values(position=select(func.max(INBOX.c.position)).where(*is_given(INBOX)).scalar_subquery())
    .returning(HEADS.c.position)
)


class SqliteStore(SqlLeases):
    """The Store port on SQLite."""

    async def file(self, inputs: Sequence[NewInput]) -> set[SessionKey]:
        """See Store.file."""
        async with self._connection(self._engine) as connection, connection.begin():
            repeats = {
                id(new) for new in inputs if new.formerly and await _repeats(connection, new)
            }
            inputs = left_over(inputs, repeats)
            filed = await _filed(connection, inputs)
        count_filed(inputs, filed)
        return {new.key for new in filed}

    async def unread(self, key: SessionKey, after: int) -> list[Unread]:
        """See Store.unread; at most 1,000 at a time."""
        rows = await self._rows(UNREAD, {**key_columns(key), "after": after})
        return [Unread(row.position, filed_of(row)) for row in rows]

    async def write(self, head: Head, money: Money | None = None) -> Head:
        """See Store.write."""
        if money is not None:
            await write_with(self._engine, head, money)
            return replace(head, version=head.version + 1)
        lines = ledger_rows(head.unsaid)
        if lines:
            await self._write_with(head, lines)
        else:
            await self._guarded(WRITE, head, columns_of(head))
        return replace(head, version=head.version + 1)

    async def take_in(self, head: Head, inputs: Sequence[NewInput]) -> Head | None:
        """See Store.take_in. A head that adds to the ledger is not written: `write` does that alone."""
        if ledger_rows(head.unsaid):
            await self.file(inputs)
            return None
        position = None
        async with self._connection(self._engine) as connection, connection.begin():
            filed = await _filed(connection, inputs)
            if len(filed) == len(inputs):
                with writing():
                    found = await connection.execute(TAKE_IN, values(columns_of(head)))
                position = found.scalar_one_or_none()
        count_filed(inputs, filed)
        if position is None:
            return None
        return replace(head, version=head.version + 1, position=position)

    async def release(self, head: Head, due_at: str | None) -> None:
        """See Store.release."""
        await self._guarded(RELEASE, head, released_columns(head, due_at))

    async def _write_with(self, head: Head, lines: Sequence[Mapping[str, Any]]) -> None:
        async with self._connection(self._engine) as connection, connection.begin():
            with writing():
                written = await connection.execute(WRITE, values(columns_of(head)))
                if written.rowcount != 1:
                    raise fenced(head)
                await connection.execute(insert(LEDGER), lines)

    async def _guarded(self, statement: Executable, head: Head, row: Mapping[str, Any]) -> None:
        async with self._connection(self._single) as connection:
            with writing():
                written = await connection.execute(statement, values(row))
        if written.rowcount != 1:
            raise fenced(head)


async def _filed(connection: AsyncConnection, inputs: Sequence[NewInput]) -> list[NewInput]:
    """File what is not in the inbox yet, and return it."""
    filed = [new for new in inputs if (await connection.execute(FILE, inbox_row(new))).rowcount]
    for key, news in Counter(new.key for new in filed).items():
        await connection.execute(WAKE, values({**key_columns(key), "filed": news}))
    return filed


async def _repeats(connection: AsyncConnection, new: NewInput) -> bool:
    asked = {**key_columns(new.key), "input_id": new.formerly}
    rows = (await connection.execute(KNOWN, values(asked))).all()
    return any(new.repeats(row.kind, row.body) for row in rows)
