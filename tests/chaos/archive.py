"""What is in ClickHouse, read with the client and through the views that analysts use."""

from __future__ import annotations

import asyncio
import logging
from collections import defaultdict
from typing import Any

from clickhouse_connect import get_client
from clickhouse_connect.driver.exceptions import ClickHouseError

from tests.chaos.evidence import Row
from tests.chaos.sums import wrong_sums

_EVENTS = """
SELECT session_id, seq, event_id, type, ifNull(turn_id, ''), ifNull(thread_id, ''), provider_event_id, data
FROM events WHERE tenant_id = {tenant:String} ORDER BY session_id, seq
"""
_NEWER = (
    "SELECT count() FROM session_events WHERE recorded_at > fromUnixTimestamp64Milli({ms:Int64})"
)
_LAST = (
    "SELECT session_id, max(seq) FROM events WHERE tenant_id = {tenant:String} GROUP BY session_id"
)
_CLOSED = """
SELECT count() FROM events WHERE tenant_id = {tenant:String} AND type = 'session.archived'
"""
_TIMEOUT_S = 5


class Archive:
    """Questions to the archive; each opens a connection of its own, since the server comes and goes.

    Every call answers None when the archive can't be asked now.
    """

    def __init__(self, url: str, tenant_id: str) -> None:
        logging.getLogger("clickhouse_connect").setLevel(logging.CRITICAL)  # its absence is no news
        self._url = url
        self._tenant_id = tenant_id

    async def rows(self) -> dict[str, list[Row]] | None:
        """Every session's rows of the view `events`, by seq."""
        found = await self._ask(_EVENTS, timeout=60)
        if found is None:
            return None
        sessions: dict[str, list[Row]] = defaultdict(list)
        for session_id, *row in found:
            sessions[session_id].append(Row(*row))
        return sessions

    async def goes_on(self, since: float) -> bool:
        """Whether an event was inserted after this time (seconds since the epoch)."""
        found = await self._ask(_NEWER, ms=int(since * 1000))
        return bool(found and found[0][0])

    async def last_seqs(self) -> dict[str, int] | None:
        """Session id to the highest seq of the view."""
        found = await self._ask(_LAST)
        return None if found is None else {str(one): int(seq) for one, seq in found}

    async def closed(self) -> int:
        """How many sessions are recorded as archived; 0 when it can't be asked."""
        found = await self._ask(_CLOSED)
        return int(found[0][0]) if found else 0

    async def wrong_sums(self) -> list[str]:
        """Figures of the views that are not what the events come to; that they can't be had is one too."""
        return await asyncio.to_thread(self._wrong_sums)

    def _wrong_sums(self) -> list[str]:
        mine = {"tenant": self._tenant_id}
        try:
            with get_client(
                dsn=self._url, autogenerate_session_id=False, connect_timeout=2
            ) as client:
                return wrong_sums(lambda sql: list(client.query(sql, mine).named_results()))
        except (ClickHouseError, OSError) as error:
            return [f"the archive can't be asked: {type(error).__name__}"]

    async def _ask(self, sql: str, timeout: int = _TIMEOUT_S, **more: Any) -> list[Any] | None:
        parameters = {"tenant": self._tenant_id, **more}
        return await asyncio.to_thread(self._query, sql, parameters, timeout)

    def _query(self, sql: str, parameters: dict[str, Any], timeout: int) -> list[Any] | None:
        try:
            client = get_client(
                dsn=self._url,
                autogenerate_session_id=False,
                connect_timeout=2,
                send_receive_timeout=timeout,
                query_retries=0,
            )
        except (ClickHouseError, OSError):
            return None
        try:
            return list(client.query(sql, parameters=parameters).result_rows)
        except (ClickHouseError, OSError):
            return None
        finally:
            client.close()
