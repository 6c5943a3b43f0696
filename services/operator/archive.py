"""What does the archive hold of a session? One reader over ClickHouse's HTTP interface."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any
from urllib.parse import unquote, urlsplit

import clickhouse_connect

from services.operator.recorded import Recorded
from shared.archive_insert import SETTINGS, TABLE

PAGE = 500
TIMEOUT_S = 60

EVENTS_PAGE = """
SELECT seq, toString(at), type, turn_id, data
FROM events
WHERE tenant_id = {tenant:String} AND session_id = {session:String}
  AND seq > {after:UInt64} AND seq <= {last:UInt64}
ORDER BY seq
LIMIT {page:UInt64}
"""
NO_END = 2**63


class Archive:
    """The view `events` of the database in `url` (`http://user:password@host:port/database`)."""

    def __init__(self, url: str) -> None:
        parts = urlsplit(url)
        self._client = clickhouse_connect.get_client(
            host=parts.hostname,
            port=parts.port or (8443 if parts.scheme == "https" else 8123),
            username=unquote(parts.username or "default"),
            password=unquote(parts.password or ""),
            secure=parts.scheme == "https",
            database=parts.path.strip("/") or "turnstile",
            connect_timeout=10,
            send_receive_timeout=TIMEOUT_S,
            autogenerate_session_id=False,
        )

    def events(self, tenant: str, session: str, first: int, last: int | None) -> Iterator[Recorded]:
        """Events `first` to `last` (None: the end) in order, read a page at a time."""
        after = first - 1
        while True:
            page = self._page(tenant, session, after, last)
            yield from page
            if len(page) < PAGE:
                return
            after = page[-1].seq

    def query(self, statement: str, **parameters: Any) -> Sequence[Sequence[Any]]:
        """Rows of a statement with `{name:Type}` parameters. Raises what clickhouse-connect raises."""
        return self._client.query(statement, parameters=parameters).result_rows

    def insert(self, rows: Sequence[bytes]) -> None:
        """Insert events as the log has them; one that is there already replaces itself. No token: a block that was
        inserted and then lost must not count as repeated."""
        settings = {**SETTINGS, "insert_deduplicate": 0}
        self._client.raw_insert(
            TABLE, insert_block=b"\n".join(rows), fmt="JSONEachRow", settings=settings
        )

    def _page(self, tenant: str, session: str, after: int, last: int | None) -> list[Recorded]:
        parameters = {
            "tenant": tenant,
            "session": session,
            "after": after,
            "last": NO_END if last is None else last,
            "page": PAGE,
        }
        rows = self._client.query(EVENTS_PAGE, parameters=parameters).result_rows
        return [Recorded(*row) for row in rows]
