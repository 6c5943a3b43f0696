"""The operator's reader of the archive, over ClickHouse's HTTP interface."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import closing
from typing import Any
from urllib.parse import unquote, urlsplit

import clickhouse_connect

from shared import archive_page
from shared.archive_insert import SETTINGS, TABLE
from shared.session.events import Event

PAGE = 1_000
TIMEOUT_S = 60
CHUNK = 1 << 20
# 0 when there is none.
BEHIND = """
SELECT min(seq) FROM events
WHERE tenant_id = {tenant:String} AND session_id = {session:String} AND seq > {after:UInt64}
"""
ERASED = """
SELECT formatDateTime(asked_at, '%Y-%m-%dT%H:%i:%SZ', 'UTC') FROM erasures FINAL
WHERE tenant_id = {tenant:String} AND session_id = {session:String}
"""
# 1: reads only, and no setting may be changed by the statement itself.
READ_ONLY = {"readonly": 1}


class ArchiveReader:
    """The view `events` of the database in `url` (`http://user:password@host:port/database`)."""

    def __init__(self, url: str, patience: float = TIMEOUT_S) -> None:
        parts = urlsplit(url)
        self._client = clickhouse_connect.get_client(
            host=parts.hostname,
            port=parts.port or (8443 if parts.scheme == "https" else 8123),
            username=unquote(parts.username or "default"),
            password=unquote(parts.password or ""),
            secure=parts.scheme == "https",
            database=parts.path.strip("/") or "turnstile",
            connect_timeout=10,
            send_receive_timeout=patience,
            autogenerate_session_id=False,
        )

    def events(
        self, tenant: str, session: str, first: int = 1, last: int | None = None
    ) -> Iterator[Event]:
        """Events `first` to `last` (None: the end) in order, read a page at a time."""
        after = first - 1
        while last is None or after < last:
            limit = PAGE if last is None else min(PAGE, last - after)
            page = self._page(tenant, session, after, limit)
            yield from page
            if page:
                after = page[-1].seq
            elif (found := self._behind(tenant, session, after)) is not None:
                after = found - 1
            else:
                return

    def why_nothing(self, tenant: str, session: str) -> str:
        """Words for a session of which there is no event."""
        erased = self.query(ERASED, tenant=tenant, session=session)
        if erased:
            return (
                f"session {session} was erased, as asked for at {erased[0][0]}: none of it is kept"
            )
        return f"tenant {tenant} has no such events of {session} there (the recorder may be behind)"

    def query(self, statement: str, **parameters: Any) -> Sequence[Sequence[Any]]:
        """Rows of a statement with `{name:Type}` parameters. Raises what clickhouse-connect raises."""
        return self._client.query(statement, parameters=parameters).result_rows

    def stream(
        self, statement: str, form: str, parameters: dict[str, Any], settings: dict[str, Any]
    ) -> Iterator[bytes]:
        """The result in a format of ClickHouse, piece by piece. Raises what clickhouse-connect raises."""
        answer: Any = self._client.raw_stream(statement, parameters, settings=settings, fmt=form)
        with closing(answer):
            while chunk := answer.read(CHUNK):
                yield chunk

    def insert(self, rows: Sequence[bytes]) -> None:
        """Insert events as the log has them; one that is there already replaces itself."""
        self._client.raw_insert(
            TABLE, insert_block=b"\n".join(rows), fmt="JSONEachRow", settings=dict(SETTINGS)
        )

    def chosen(self, statement: str, **parameters: Any) -> Sequence[Sequence[Any]]:
        """Rows of a statement that somebody else wrote: it may read, and nothing else."""
        found = self._client.query(statement, parameters=parameters, settings=READ_ONLY)
        return found.result_rows

    def _behind(self, tenant: str, session: str, after: int) -> int | None:
        """The first seq behind a gap; None: there is nothing more."""
        names = {"tenant": tenant, "session": session, "after": after}
        found = self.query(BEHIND, **names)[0][0]
        return int(found) if found else None

    def _page(self, tenant: str, session: str, after: int, limit: int) -> list[Event]:
        asked = archive_page.parameters(tenant, session, after, limit)
        raw = self._client.raw_query(archive_page.QUERY, asked, settings=archive_page.SETTINGS)
        return archive_page.events(tenant, session, raw)
