"""Chooses the sessions of a rerun: what the command line names, or what a condition selects, read-only."""

from __future__ import annotations

from services.operator.archive import ArchiveReader
from services.operator.reruns.plan import PREFIX

# The condition stands alone on its lines: a comment in it ends there.
SESSIONS = """
SELECT session_id, min(submitted_at) AS began
FROM (SELECT tenant_id, session_id, submitted_at FROM turn_facts WHERE (
%turns%
))
WHERE tenant_id = {tenant:String} AND NOT startsWith(session_id, {prefix:String})
    AND (tenant_id, session_id) IN (SELECT tenant_id, session_id FROM %table% WHERE (
%sessions%
))
GROUP BY session_id
ORDER BY began, session_id
LIMIT {limit:UInt32}
"""
AGENTS = """
SELECT DISTINCT JSONExtractString(data, 'agent') FROM events
WHERE tenant_id = {tenant:String} AND startsWith(session_id, {prefix:String})
    AND type = 'session.opened'
"""


def chosen(
    archive: ArchiveReader, tenant: str, where: str, where_session: str, limit: int
) -> list[str]:
    """Sessions of the tenant with a turn for which `where` holds (columns of turn_facts), and for which
    `where_session` holds (columns of session_facts), the oldest first; "" holds always. Earlier reruns are never
    among them. Raises what clickhouse-connect raises for a condition that is none, or that would change anything.
    """
    statement = SESSIONS.replace("%table%", "session_facts" if where_session else "turn_facts")
    statement = statement.replace("%sessions%", where_session or "true")
    statement = statement.replace("%turns%", where or "true")
    rows = archive.chosen(statement, tenant=tenant, prefix=PREFIX, limit=limit)
    return [str(row[0]) for row in rows]


def agents_of(archive: ArchiveReader, tenant: str, run: str) -> set[str]:
    """The agents that shadow sessions of a run were opened for."""
    return {str(row[0]) for row in archive.query(AGENTS, tenant=tenant, prefix=f"{PREFIX}{run}:")}
