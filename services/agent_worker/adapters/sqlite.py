"""The store on SQLite, where one process is enough: one writer, which takes its write lock at once."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import Any

from msgspec.structs import replace
from sqlalchemy import TextClause, text
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine

from services.agent_worker.adapters.rows import columns_of
from services.agent_worker.adapters.sql import (
    SQLITE_NOW,
    SqlLeases,
    count_filed,
    fenced,
    filed_of,
    inbox_row,
    key_columns,
    left_over,
    writing,
)
from services.agent_worker.ports import Head, Key, NewInput, Unread
from shared.moment import parse

FILE = """
INSERT INTO worker_inbox (tenant_id, session_id, input_id, kind, body, traceparent, received_at)
VALUES (:tenant_id, :session_id, :input_id, :kind, :body, :traceparent, :received_at)
ON CONFLICT (tenant_id, session_id, input_id) DO NOTHING
"""
KNOWN = text("""
SELECT kind, body FROM worker_inbox
WHERE tenant_id = :tenant_id AND session_id = :session_id AND input_id = :input_id
""")
WAKE = """
INSERT INTO worker_heads
    (tenant_id, session_id, epoch, version, state, unsaid, todo, filed, taken, position, wake_at)
VALUES (:tenant_id, :session_id, 0, 0, :empty, :empty, :empty, :news, 0, 0, {now})
ON CONFLICT (tenant_id, session_id) DO UPDATE SET
    filed = worker_heads.filed + excluded.filed,
    wake_at = CASE WHEN worker_heads.lease_owner IS NULL THEN {now} ELSE worker_heads.wake_at END
"""
UNREAD = """
SELECT position, input_id, kind, body, traceparent, received_at FROM worker_inbox
WHERE tenant_id = :tenant_id AND session_id = :session_id AND position > :after
ORDER BY position LIMIT 1000
"""
WRITE = """
UPDATE worker_heads SET state = :state, unsaid = :unsaid, todo = :todo, taken = :taken,
    position = :position, version = version + 1
WHERE tenant_id = :tenant_id AND session_id = :session_id AND epoch = :epoch AND version = :version
"""
RELEASE = """
UPDATE worker_heads SET state = :state, unsaid = :unsaid, todo = :todo, taken = :taken,
    position = :position, version = version + 1, lease_owner = NULL,
    wake_at = CASE WHEN filed > :taken THEN {now} ELSE :due_at END
WHERE tenant_id = :tenant_id AND session_id = :session_id AND epoch = :epoch AND version = :version
"""


class SqliteStore(SqlLeases):
    """The Store port on SQLite."""

    def __init__(self, engine: AsyncEngine) -> None:
        super().__init__(engine)
        self._file, self._unread = text(FILE), text(UNREAD)
        self._wake = text(WAKE.format(now=SQLITE_NOW))
        self._write, self._release = text(WRITE), text(RELEASE.format(now=SQLITE_NOW))

    async def file(self, inputs: Sequence[NewInput]) -> set[Key]:
        """See Store.file."""
        async with self._connection(self._engine) as connection, connection.begin():
            repeats = {
                id(new) for new in inputs if new.formerly and await _repeats(connection, new)
            }
            inputs = left_over(inputs, repeats)
            filed = [
                new
                for new in inputs
                if (await connection.execute(self._file, inbox_row(new))).rowcount
            ]
            for key, news in Counter(new.key for new in filed).items():
                await connection.execute(
                    self._wake, {**key_columns(key), "news": news, "empty": b""}
                )
        count_filed(inputs, filed)
        return {new.key for new in filed}

    async def unread(self, key: Key, after: int) -> list[Unread]:
        """See Store.unread; at most 1,000 at a time."""
        rows = await self._rows(self._unread, {**key_columns(key), "after": after})
        return [Unread(row.position, filed_of(row)) for row in rows]

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
            with writing():
                written = await connection.execute(statement, values)
        if written.rowcount != 1:
            raise fenced(head)


async def _repeats(connection: AsyncConnection, new: NewInput) -> bool:
    values = {**key_columns(new.key), "input_id": new.formerly}
    rows = (await connection.execute(KNOWN, values)).all()
    return any(new.repeats(row.kind, row.body) for row in rows)
