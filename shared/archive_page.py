"""A page of a session's events out of the archive: one query, and one reading of its rows.

`infra/clickhouse/queries/gateway_events_page.sql` says what a page is.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import msgspec
from msgspec import Raw, Struct

from shared.session.events import Event

QUERY = (
    Path(__file__).parents[1] / "infra" / "clickhouse" / "queries" / "gateway_events_page.sql"
).read_text()
SETTINGS = {"output_format_json_quote_64bit_integers": 0}
# A page ends at so many bytes of data, so that large events don't fill the memory.
MAX_BYTES = 2 * 1024 * 1024


class _Row(Struct, array_like=True, frozen=True):
    """One row of the query, in its order."""

    seq: int
    event_id: str
    type: str
    turn_id: str | None
    at: str
    user_id: str
    thread_id: str | None
    model: str | None
    trace_id: str
    data: str


_rows = msgspec.json.Decoder(_Row)


def parameters(tenant: str, session: str, after: int, limit: int) -> dict[str, Any]:
    """Those of QUERY for at most `limit` events after the seq `after`."""
    return {
        "tenant_id": tenant,
        "session_id": session,
        "after": after,
        "limit": limit,
        "max_bytes": MAX_BYTES,
    }


def events(tenant: str, session: str, answer: bytes) -> list[Event]:
    """The events in an answer to QUERY, as they were on the log. Raises msgspec.DecodeError for what is none."""
    return [
        Event(
            tenant_id=tenant,
            session_id=session,
            seq=row.seq,
            event_id=row.event_id,
            type=row.type,
            turn_id=row.turn_id or None,
            at=row.at.replace(" ", "T") + "Z",
            user_id=row.user_id,
            thread_id=row.thread_id or None,
            model=row.model or None,
            trace_id=row.trace_id,
            data=Raw(row.data.encode()),
        )
        for row in _rows.decode_lines(answer)
    ]
