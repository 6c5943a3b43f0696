"""Archived rows for an audit, without what was said: of each event's JSON a digest is left."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

from services.operator.archive import ArchiveReader
from services.operator.audits.evidence import Row, digest
from shared.session.key import SessionKey

# Events of 1 MB each are held one page at a time.
PAGE = 200

ROWS = """
SELECT seq, type, turn_id, thread_id, provider_event_id,
    formatDateTime(at, '%Y-%m-%dT%H:%i:%S.%fZ', 'UTC'), data
FROM events
WHERE tenant_id = {tenant:String} AND session_id = {session:String} AND seq > {after:UInt64}
ORDER BY seq LIMIT {page:UInt64}
"""
# The table itself, where repeats still lie side by side.
BODIES = """
SELECT seq, uniqExact(event_id, type, sipHash128(data)) AS bodies
FROM session_events
WHERE tenant_id = {tenant:String} AND session_id = {session:String}
GROUP BY seq HAVING bodies > 1 ORDER BY seq
"""
SESSIONS = """
SELECT DISTINCT tenant_id, session_id FROM session_events
WHERE at >= parseDateTime64BestEffort({since:String}, 6, 'UTC')
    AND ({tenant:String} = '' OR tenant_id = {tenant:String})
    AND ({session:String} = '' OR session_id = {session:String})
ORDER BY tenant_id, session_id
"""


def rows(archive: ArchiveReader, tenant: str, session: str) -> list[Row]:
    """The session's events as the view shows them."""
    found: list[Row] = []
    while True:
        after = found[-1].seq if found else 0
        page = archive.query(ROWS, tenant=tenant, session=session, after=after, page=PAGE)
        found += map(_row, page)
        if len(page) < PAGE:
            return found


def bodies(archive: ArchiveReader, tenant: str, session: str) -> dict[int, int]:
    """How many different events there are under a seq, where it is more than one."""
    found = archive.query(BODIES, tenant=tenant, session=session)
    return {int(seq): int(count) for seq, count in found}


def sessions(archive: ArchiveReader, since: str, tenant: str, session: str) -> list[SessionKey]:
    """Tenant and session of what has events at `since` (RFC 3339) or later; "" is any."""
    found = archive.query(SESSIONS, since=since, tenant=tenant, session=session)
    return [(str(owner), str(name)) for owner, name in found]


def _row(values: Sequence[Any]) -> Row:
    seq, kind, turn_id, thread_id, event_id, at, data = values
    own: dict[str, Any] = {}
    if not event_id and kind.startswith(("turn.", "session.rotated")):
        own = json.loads(data)
    return Row(
        seq=int(seq),
        type=kind,
        turn_id=turn_id,
        thread_id=thread_id,
        provider_event_id=event_id,
        at=at,
        digest=digest(data) if event_id else "",
        attempts=int(own.get("attempts") or 0),
        provider_session_id=str(own.get("provider_session_id") or ""),
    )
