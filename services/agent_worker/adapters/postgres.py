"""The store on PostgreSQL in few round trips: what sessions write and read at the same time travels together.

A worker with hundreds of sessions would otherwise spend its time on statements, and wait for connections.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from msgspec.structs import replace
from sqlalchemy import TextClause, text
from sqlalchemy.ext.asyncio import AsyncEngine

from services.agent_worker.adapters.rows import columns_of
from services.agent_worker.adapters.sql import (
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
from shared.grouped import Grouped
from shared.moment import parse

INBOX = {
    "tenant_id": "text",
    "session_id": "text",
    "input_id": "text",
    "kind": "text",
    "body": "bytea",
    "traceparent": "text",
    "received_at": "text",
}
HEAD = {
    "tenant_id": "text",
    "session_id": "text",
    "epoch": "bigint",
    "version": "bigint",
    "state": "bytea",
    "unsaid": "bytea",
    "todo": "bytea",
    "taken": "bigint",
    "position": "bigint",
}
RELEASED = {**HEAD, "due_at": "double precision"}
IDS = {name: INBOX[name] for name in ("tenant_id", "session_id", "input_id")}
ASKED = {"tenant_id": "text", "session_id": "text", "after": "bigint"}
# Rows are locked in the order of their keys by every statement that touches several: none can deadlock another.
_IN_ORDER = 'tenant_id COLLATE "C", session_id COLLATE "C"'


def _given(columns: Mapping[str, str]) -> str:
    """A table of parameters, one array a column, in the order given."""
    arrays = ", ".join(f"CAST(:{name} AS {kind}[])" for name, kind in columns.items())
    return f"unnest({arrays}) WITH ORDINALITY AS given({', '.join(columns)}, place)"


KEYS = {"tenant_id": "text", "session_id": "text"}
MAKE_HEADS = f"""
INSERT INTO worker_heads (tenant_id, session_id, epoch, version, state, unsaid, todo, filed, taken, position)
SELECT tenant_id, session_id, 0, 0, '', '', '', 0, 0, 0 FROM {_given(KEYS)}
GROUP BY tenant_id, session_id ORDER BY {_IN_ORDER} ON CONFLICT (tenant_id, session_id) DO NOTHING
"""
# All heads are locked (which counting them waits for) before the first input has its position: one with a lower
# position that becomes visible later would lie behind its reader.
FILE = f"""
WITH asked AS (SELECT * FROM {_given(INBOX)}), locked AS (
    SELECT 1 FROM worker_heads WHERE (tenant_id, session_id) IN (SELECT tenant_id, session_id FROM asked)
    ORDER BY {_IN_ORDER} FOR UPDATE
), filed AS (
    INSERT INTO worker_inbox ({", ".join(INBOX)})
    SELECT {", ".join(INBOX)} FROM asked WHERE (SELECT count(*) FROM locked) > 0
    ORDER BY {_IN_ORDER}, place
    ON CONFLICT (tenant_id, session_id, input_id) DO NOTHING
    RETURNING tenant_id, session_id, input_id
), woken AS (
    UPDATE worker_heads AS head SET filed = head.filed + news.count,
        wake_at = CASE WHEN head.lease_owner IS NULL
            THEN extract(epoch FROM clock_timestamp()) ELSE head.wake_at END
    FROM (SELECT tenant_id, session_id, count(*) FROM filed GROUP BY tenant_id, session_id) AS news
    WHERE (head.tenant_id, head.session_id) = (news.tenant_id, news.session_id)
)
SELECT min(place) AS place FROM asked JOIN filed USING (tenant_id, session_id, input_id)
GROUP BY tenant_id, session_id, input_id
"""


KNOWN = f"""
SELECT given.place, inbox.kind, inbox.body FROM {_given(IDS)}
JOIN worker_inbox AS inbox USING (tenant_id, session_id, input_id)
"""


def _locked(columns: Mapping[str, str]) -> str:
    return f"""
WITH mine AS (
    SELECT given.* FROM {_given(columns)} JOIN worker_heads AS head USING (tenant_id, session_id)
    WHERE head.epoch = given.epoch AND head.version = given.version
    ORDER BY {_IN_ORDER} FOR UPDATE OF head
)"""


_SET = """
    state = mine.state, unsaid = mine.unsaid, todo = mine.todo, taken = mine.taken,
    position = mine.position, version = head.version + 1"""
_WHERE = """
FROM mine WHERE head.tenant_id = mine.tenant_id AND head.session_id = mine.session_id
    AND head.epoch = mine.epoch AND head.version = mine.version
RETURNING mine.place"""
WRITE = f"{_locked(HEAD)} UPDATE worker_heads AS head SET {_SET} {_WHERE}"
RELEASE = f"""{_locked(RELEASED)} UPDATE worker_heads AS head SET {_SET},
    lease_owner = NULL,
    wake_at = CASE WHEN head.filed > mine.taken THEN extract(epoch FROM clock_timestamp()) ELSE mine.due_at END
{_WHERE}"""
UNREAD = f"""
SELECT given.place, inbox.* FROM {_given(ASKED)} CROSS JOIN LATERAL (
    SELECT position, input_id, kind, body, traceparent, received_at FROM worker_inbox
    WHERE tenant_id = given.tenant_id AND session_id = given.session_id AND position > given.after
    ORDER BY position LIMIT 1000) AS inbox
ORDER BY given.place, inbox.position
"""


class PostgresStore(SqlLeases):
    """The Store port on PostgreSQL."""

    def __init__(self, engine: AsyncEngine) -> None:
        super().__init__(engine)
        self._make_heads, self._file_all = text(MAKE_HEADS), text(FILE)
        self._unread_of = text(UNREAD)
        self._known = text(KNOWN)
        self._write_all, self._release_all = text(WRITE), text(RELEASE)
        self._writes = Grouped(self._write_group)
        self._releases = Grouped(self._release_group)
        self._reads = Grouped(self._read_group)

    async def file(self, inputs: Sequence[NewInput]) -> set[Key]:
        """See Store.file."""
        inputs = await self._without_repeats(inputs)
        given = [inbox_row(new) for new in inputs]
        async with self._connection(self._single) as connection:
            await connection.execute(self._make_heads, _arrays(KEYS, given))
            rows = (await connection.execute(self._file_all, _arrays(INBOX, given))).all()
        filed = [inputs[row.place - 1] for row in rows]
        count_filed(inputs, filed)
        return {new.key for new in filed}

    async def _without_repeats(self, inputs: Sequence[NewInput]) -> Sequence[NewInput]:
        asked = [new for new in inputs if new.formerly]
        if not asked:
            return inputs
        ids = [{**key_columns(new.key), "input_id": new.formerly} for new in asked]
        rows = await self._rows(self._known, _arrays(IDS, ids))
        found = [(asked[row.place - 1], row) for row in rows]
        return left_over(inputs, {id(n) for n, row in found if n.repeats(row.kind, row.body)})

    async def unread(self, key: Key, after: int) -> list[Unread]:
        """See Store.unread; at most 1,000 at a time."""
        return await self._reads((key, after))

    async def write(self, head: Head) -> Head:
        """See Store.write."""
        if not await self._writes(head):
            raise fenced(head)
        return replace(head, version=head.version + 1)

    async def release(self, head: Head, due_at: str | None) -> None:
        """See Store.release."""
        if not await self._releases((head, due_at)):
            raise fenced(head)

    async def _write_group(self, heads: Sequence[Head]) -> list[bool]:
        values = _arrays(HEAD, [columns_of(head) for head in heads])
        return await self._written(self._write_all, values, len(heads))

    async def _release_group(self, given: Sequence[tuple[Head, str | None]]) -> list[bool]:
        rows = [
            {**columns_of(head), "due_at": parse(due).timestamp() if due else None}
            for head, due in given
        ]
        return await self._written(self._release_all, _arrays(RELEASED, rows), len(given))

    async def _written(
        self, statement: TextClause, values: Mapping[str, Any], count: int
    ) -> list[bool]:
        """Which of the heads given were still theirs who gave them."""
        with writing():
            places = {row.place for row in await self._rows(statement, dict(values))}
        return [place in places for place in range(1, count + 1)]

    async def _read_group(self, given: Sequence[tuple[Key, int]]) -> list[list[Unread]]:
        asked = [
            {"tenant_id": key[0], "session_id": key[1], "after": after} for key, after in given
        ]
        found: list[list[Unread]] = [[] for _ in given]
        for row in await self._rows(self._unread_of, _arrays(ASKED, asked)):
            found[row.place - 1].append(Unread(row.position, filed_of(row)))
        return found


def _arrays(columns: Mapping[str, str], rows: Sequence[Mapping[str, Any]]) -> dict[str, list[Any]]:
    return {name: [row[name] for row in rows] for name in columns}
