"""How the versions of an agent do, by the archive."""

from __future__ import annotations

from datetime import UTC, datetime

from services.operator.agents.judge import Figures
from services.operator.archive import ArchiveReader
from services.operator.reruns.plan import PREFIX
from shared.session.releases import Release

# The canary's turns since it began; those of other versions from so long before, too, or a busy canary would have
# little to be compared with. Turns that somebody interrupted say nothing of a version, and reruns are nobody's.
BEFORE_SECONDS = 7 * 86_400
FIGURES = """
SELECT
    s.agent_version, count(), countIf(t.status != 'completed'),
    toFloat64(sum(t.cost_usd)) / count(), coalesce(quantileExact(0.95)(t.total_seconds), 0)
FROM turn_facts AS t
INNER JOIN
(
    SELECT
        tenant_id, session_id, turn_id,
        argMax(JSONExtractString(data, 'agent'), seq) AS agent,
        argMax(toUInt32(JSONExtractUInt(data, 'agent_version')), seq) AS agent_version
    FROM session_events
    WHERE type = 'turn.started' AND at >= fromUnixTimestamp64Micro({since:Int64} - {before:Int64})
        AND ({tenant:String} = '' OR tenant_id = {tenant:String})
    GROUP BY tenant_id, session_id, turn_id
    HAVING agent = {agent:String}
) AS s
USING (tenant_id, session_id, turn_id)
WHERE t.ended_at IS NOT NULL AND t.status IN ('completed', 'refused', 'failed')
    AND NOT startsWith(session_id, {reruns:String})
    AND (s.agent_version != {canary:UInt32} OR t.ended_at >= fromUnixTimestamp64Micro({since:Int64}))
GROUP BY s.agent_version
"""


def figures(archive: ArchiveReader, release: Release, since: float) -> dict[int, Figures]:
    """Figures by version, of the tenant's turns where the agent is a tenant's. `since`: when the canary began, in
    seconds since the epoch. Raises what clickhouse-connect raises."""
    rows = archive.query(
        FIGURES,
        since=round(since * 1e6),
        before=BEFORE_SECONDS * 1_000_000,
        tenant=release.tenant_id,
        agent=release.agent_id,
        canary=release.canary,
        reruns=PREFIX,
    )
    return {
        int(row[0]): Figures(int(row[1]), int(row[2]), float(row[3]), float(row[4])) for row in rows
    }


def began(since: float) -> str:
    """That moment, in minutes (UTC)."""
    return f"{datetime.fromtimestamp(since, UTC):%Y-%m-%d %H:%M}"
