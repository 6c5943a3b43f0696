"""Erased sessions as ClickHouse knows them, and what it still holds of them. Blocking, for a thread.

The table `erasures` is the recorder's memory of them (`infra/clickhouse/migrations`); every other table of the
database that has the columns `tenant_id` and `session_id` may hold rows of theirs, whoever made it.
"""

from __future__ import annotations

import contextlib
import time
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

import clickhouse_connect
from clickhouse_connect.driver.client import Client
from clickhouse_connect.driver.exceptions import ClickHouseError

from services.recorder.archive import CONNECT_TIMEOUT_S, Away
from shared.session.key import SessionKey

Rows = Mapping[str, int]
# Parts that a mutation replaced are kept for so long at most: until the new ones are surely on the disk (Linux
# writes back after 30 s), instead of ClickHouse's default of 480 s.
OLD_PARTS_S = 60
# Old parts go when ClickHouse comes by a table, which takes it minutes when the table is at rest. Dropping a
# partition makes it do so at once; there is none of this name. It ends merges, so it waits until old parts may go.
TIDY = "ALTER TABLE {table} DROP PARTITION ID 'nothing'"
COLUMNS = (
    "tenant_id",
    "session_id",
    "asked_at",
    "noted_at",
    "deleted_at",
    "gone_at",
    "rows",
    "version",
)
SINCE = """
SELECT tenant_id, session_id, max(noted_at) FROM erasures
WHERE noted_at >= fromUnixTimestamp64Milli({since:Int64}) GROUP BY tenant_id, session_id
"""
OPEN = "SELECT {columns} FROM erasures FINAL WHERE gone_at IS NULL ORDER BY noted_at LIMIT 1000"
ONE = "SELECT {columns} FROM erasures FINAL WHERE (tenant_id, session_id) IN ({keys})"
TABLES = """
SELECT name, toUInt32OrZero(if(engine_full LIKE '%old_parts_lifetime%',
    extract(engine_full, 'old_parts_lifetime = (\\d+)'),
    (SELECT value FROM system.merge_tree_settings WHERE name = 'old_parts_lifetime'))) AS seconds
FROM system.tables
WHERE database = currentDatabase() AND engine LIKE '%MergeTree' AND name != 'erasures' AND name IN (
    SELECT table FROM system.columns WHERE database = currentDatabase() AND name IN ('tenant_id', 'session_id')
    GROUP BY table HAVING count() = 2)
ORDER BY name
"""
UNDONE = """
SELECT count() FROM system.mutations WHERE database = currentDatabase() AND NOT is_done
"""
# An empty part holds nothing of anybody.
OLD_PARTS = """
SELECT count(), toUnixTimestamp(min(remove_time)) FROM system.parts
WHERE database = currentDatabase() AND NOT active AND rows > 0 AND table IN ({tables})
"""


@dataclass(frozen=True, slots=True)
class Tombstone:
    """One erased session; see `0009_erasures.sql`."""

    key: SessionKey
    asked_at: datetime
    noted_at: datetime
    deleted_at: datetime | None = None
    gone_at: datetime | None = None
    rows: Rows | None = None


class Tombstones:
    """On the database in `url`. Not for two threads at once; `timeout` is in seconds, for one statement. Every
    method raises Away when ClickHouse does not do it."""

    def __init__(self, url: str, *, timeout: float) -> None:
        self._url = url
        self._timeout = timeout
        self._client: Client | None = None
        self._lifetimes: dict[str, int] = {}

    def since(self, moment: float) -> tuple[set[SessionKey], float]:
        """Sessions noted at `moment` (seconds since the epoch) or later, and the latest such moment."""
        rows = self._query(SINCE, since=int(moment * 1000))
        latest = max((at.timestamp() for *_, at in rows), default=moment)
        return {(str(tenant), str(session)) for tenant, session, _ in rows}, latest

    def put(self, tombstones: Collection[Tombstone]) -> None:
        """Write what is known of sessions now; it replaces what was."""
        version = time.time_ns() // 1000
        rows = [
            [*t.key, t.asked_at, t.noted_at, t.deleted_at, t.gone_at, dict(t.rows or {}), version]
            for t in tombstones
        ]
        with _away():
            self._connected().insert("erasures", rows, column_names=COLUMNS)

    def open(self) -> list[Tombstone]:
        """Those of which something may be left on the disk, a thousand at most."""
        return [_tombstone(row) for row in self._query(OPEN.format(columns=_COLUMNS))]

    def of(self, keys: Collection[SessionKey]) -> list[Tombstone]:
        """What is noted of these sessions."""
        if not keys:
            return []
        text = ONE.format(columns=_COLUMNS, keys=_list(keys))
        return [_tombstone(row) for row in self._query(text)]

    def tables(self) -> list[str]:
        """The tables that may hold rows of sessions. Sees to it that what a mutation replaced there goes soon."""
        self._lifetimes = {str(name): int(seconds) for name, seconds in self._query(TABLES)}
        for name, seconds in self._lifetimes.items():
            if seconds > OLD_PARTS_S:
                setting = f"old_parts_lifetime = {OLD_PARTS_S}"
                self._command(f"ALTER TABLE {_name(name)} MODIFY SETTING {setting}")
                self._lifetimes[name] = OLD_PARTS_S
        return list(self._lifetimes)

    def undeleted(self, tables: Sequence[str]) -> set[SessionKey]:
        """Erased sessions of which there are rows."""
        found: set[SessionKey] = set()
        for table in tables:
            erased = "(tenant_id, session_id) IN (SELECT tenant_id, session_id FROM erasures)"
            text = f"SELECT DISTINCT tenant_id, session_id FROM {_name(table)} WHERE {erased}"
            found |= {(str(tenant), str(session)) for tenant, session in self._query(text)}
        return found

    def count(
        self, tables: Sequence[str], keys: Collection[SessionKey]
    ) -> dict[SessionKey, dict[str, int]]:
        """How many rows each session has, by table; repeats not yet merged count each."""
        found: dict[SessionKey, dict[str, int]] = {}
        for table in tables:
            text = (
                f"SELECT tenant_id, session_id, count() FROM {_name(table)} "
                f"WHERE (tenant_id, session_id) IN ({_list(keys)}) GROUP BY tenant_id, session_id"
            )
            for tenant, session, rows in self._query(text):
                found.setdefault((str(tenant), str(session)), {})[table] = int(rows)
        return found

    def delete(self, tables: Collection[str], keys: Collection[SessionKey]) -> None:
        """Begin to delete the rows of these sessions; `deleting` tells when it is over."""
        for table in tables:
            where = f"(tenant_id, session_id) IN ({_list(keys)})"
            self._command(f"ALTER TABLE {_name(table)} DELETE WHERE {where}")

    def deleting(self) -> bool:
        """Whether a mutation of this database is under way."""
        return bool(self._query(UNDONE)[0][0])

    def oldest_part(self, tables: Sequence[str]) -> float | None:
        """When the oldest part that was replaced and still lies on the disk was replaced, in seconds since the
        epoch."""
        if not tables:
            return None
        ((parts, oldest),) = self._query(OLD_PARTS.format(tables=", ".join(map(quoted, tables))))
        return float(oldest) if parts else None

    def tidy(self, tables: Sequence[str], age: float) -> None:
        """Have ClickHouse remove the old parts of those tables in which they may go by `age` (seconds). Where the
        user may not ask for it, they go when ClickHouse comes by."""
        for table in tables:
            if age > self._lifetimes.get(table, OLD_PARTS_S) + 1:
                with contextlib.suppress(Away):
                    self._command(TIDY.format(table=_name(table)))

    def close(self) -> None:
        """Give the connection back."""
        client, self._client = self._client, None
        if client is not None:
            client.close()

    def _query(self, text: str, **parameters: Any) -> Sequence[Sequence[Any]]:
        with _away():
            return self._connected().query(text, parameters=parameters).result_rows

    def _command(self, text: str) -> None:
        with _away():
            self._connected().command(text)

    def _connected(self) -> Client:
        if self._client is None:
            self._client = clickhouse_connect.get_client(
                dsn=self._url,
                connect_timeout=CONNECT_TIMEOUT_S,
                send_receive_timeout=max(1, round(self._timeout)),
                autogenerate_session_id=False,
                query_retries=0,
                tz_mode="aware",
            )
        return self._client


_COLUMNS = ", ".join(COLUMNS[:-1])


def quoted(text: str) -> str:
    """A string literal: mutations take no parameters."""
    escaped = text.replace("\\", "\\\\").replace("'", "\\'")
    return f"'{escaped}'"


def _list(keys: Collection[SessionKey]) -> str:
    return ", ".join(f"({quoted(tenant)}, {quoted(session)})" for tenant, session in sorted(keys))


def _name(table: str) -> str:
    return "`" + table.replace("\\", "\\\\").replace("`", "\\`") + "`"


def _tombstone(row: Sequence[Any]) -> Tombstone:
    tenant, session, *rest = row
    return Tombstone((str(tenant), str(session)), *rest)


@contextlib.contextmanager
def _away() -> Iterator[None]:
    try:
        yield
    except (ClickHouseError, OSError) as error:
        name = getattr(error, "name", None) or type(error).__name__
        raise Away(f"{name} (code {getattr(error, 'code', None)})") from error
