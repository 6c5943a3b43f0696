"""What the archive still holds of an erased session. Blocking, read only."""

from __future__ import annotations

from dataclasses import dataclass, field

from services.operator.archive import ArchiveReader

# Whatever has these columns may hold rows of a session, whoever made it; as the recorder's `tombstones.py` has it.
TABLES = """
SELECT name FROM system.tables
WHERE database = currentDatabase() AND engine LIKE '%MergeTree' AND name != 'erasures' AND name IN (
    SELECT table FROM system.columns WHERE database = currentDatabase() AND name IN ('tenant_id', 'session_id')
    GROUP BY table HAVING count() = 2)
ORDER BY name
"""
COUNT = """
SELECT count() FROM {table} WHERE tenant_id = {{tenant:String}} AND session_id = {{session:String}}
"""
NOTED = """
SELECT
    formatDateTime(asked_at, '%Y-%m-%dT%H:%i:%S.%fZ', 'UTC'),
    formatDateTime(deleted_at, '%Y-%m-%dT%H:%i:%S.%fZ', 'UTC'),
    formatDateTime(gone_at, '%Y-%m-%dT%H:%i:%S.%fZ', 'UTC'),
    rows
FROM erasures FINAL
WHERE tenant_id = {tenant:String} AND session_id = {session:String}
"""
OF_USER = """
SELECT DISTINCT session_id FROM session_events
WHERE tenant_id = {tenant:String} AND user_id = {user:String} ORDER BY session_id
"""
# Parts that were set aside (broken, or by hand): no mutation reaches them.
DETACHED = """
SELECT table, count() FROM system.detached_parts WHERE database = currentDatabase() GROUP BY table ORDER BY table
"""


@dataclass(frozen=True, slots=True)
class ArchiveTraces:
    """`rows` by table, those without any left out; times are the recorder's, "" before."""

    rows: dict[str, int] = field(default_factory=dict)
    asked_at: str = ""
    deleted_at: str = ""
    gone_at: str = ""
    deleted: dict[str, int] = field(default_factory=dict)

    @property
    def left(self) -> list[str]:
        """What there is still, in words."""
        if not self.asked_at:
            return ["clickhouse: the recorder has not heard of the erasure"]
        left = [f"clickhouse: {count} rows in {table}" for table, count in self.rows.items()]
        if not self.gone_at:
            left.append("clickhouse: parts that were replaced lie on the disk")
        return left


def of_user(archive: ArchiveReader, tenant: str, user: str) -> list[str]:
    """Sessions with events of a user."""
    return [str(row[0]) for row in archive.query(OF_USER, tenant=tenant, user=user)]


def traces(archive: ArchiveReader, tenant: str, session: str) -> ArchiveTraces:
    """What there is of a session now. Raises what clickhouse-connect raises."""
    rows: dict[str, int] = {}
    for (table,) in archive.query(TABLES):
        name = "`" + str(table).replace("`", "\\`") + "`"
        ((count,),) = archive.query(COUNT.format(table=name), tenant=tenant, session=session)
        if count:
            rows[str(table)] = int(count)
    noted = archive.query(NOTED, tenant=tenant, session=session)
    if not noted:
        return ArchiveTraces(rows)
    ((asked_at, deleted_at, gone_at, deleted),) = noted
    counts = {str(table): int(count) for table, count in deleted.items()}
    return ArchiveTraces(rows, asked_at, deleted_at or "", gone_at or "", counts)


def detached_parts(archive: ArchiveReader) -> list[str]:
    """Tables with detached parts, in words: they may hold rows that nobody can look at."""
    return [
        f"clickhouse: {count} detached parts of {table}, which no deletion reaches: look at "
        f"system.detached_parts and DROP DETACHED PART"
        for table, count in archive.query(DETACHED)
    ]
