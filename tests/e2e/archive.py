"""What is in ClickHouse, asked with plain clickhouse-connect, through the views analysts read."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any

from infra.clients.archive import ArchiveClient as Client
from tests.e2e.waiting import PATIENCE_S, eventually

_COLUMNS = "seq, event_id, type, turn_id, thread_id, provider_event_id, trace_id, data"


@dataclass(frozen=True, slots=True)
class Row:
    """A row of `events`. `provider_event_id` is empty on Turnstile's own events."""

    seq: int
    event_id: str
    type: str
    turn_id: str
    thread_id: str
    provider_event_id: str
    trace_id: str
    data: str

    @property
    def body(self) -> dict[str, Any]:
        parsed: dict[str, Any] = json.loads(self.data)
        return parsed


class Archive(Client):
    """The reader, with the questions that the tests ask of one stack."""

    async def rows(self, tenant_id: str, session_id: str) -> list[Row]:
        """A session's rows of the view `events`, in order; a repeat would show."""
        found = await self.query(
            f"SELECT {_COLUMNS} FROM events WHERE tenant_id = {{tenant:String}}"
            " AND session_id = {session:String} ORDER BY seq",
            tenant=tenant_id,
            session=session_id,
        )
        return [Row(*row) for row in found]

    async def complete(
        self, tenant_id: str, session_id: str, last_seq: int, timeout: float = PATIENCE_S
    ) -> list[Row]:
        """The session's rows once seq `last_seq` is among them; exactly 1, 2, 3 … or AssertionError."""

        async def look() -> list[Row] | None:
            rows = await self.rows(tenant_id, session_id)
            return rows if rows and rows[-1].seq >= last_seq else None

        rows = await eventually(look, f"{session_id} archived up to {last_seq}", timeout)
        seqs = [row.seq for row in rows]
        assert seqs == list(range(1, len(rows) + 1)), f"{session_id}: {seqs}"
        return rows
