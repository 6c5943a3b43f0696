"""What is in ClickHouse, read with the client and through the views that analysts use."""

from __future__ import annotations

import asyncio
import logging
from collections import defaultdict
from typing import Any

from infra.clients.archive import ArchiveClient as Client
from infra.clients.archive import ClickHouseError
from tests.chaos.evidence import Row
from tests.chaos.sums import wrong_sums

_EVENTS = """
SELECT session_id, seq, event_id, type, ifNull(turn_id, ''), ifNull(thread_id, ''), provider_event_id, data,
    formatDateTime(at, '%Y-%m-%dT%H:%i:%S.%fZ', 'UTC')
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
    AND JSONExtractString(data, 'reason') = 'requested'
"""
_LEDGER = """
SELECT provider_session_id, sum(micro_usd) FROM cost_facts
WHERE tenant_id = {tenant:String} GROUP BY provider_session_id
"""
_TIMEOUT_S = 5


class Archive:
    """Questions to the archive; each opens a connection of its own, since the server comes and goes.

    Every call answers None when the archive can't be asked now.
    """

    def __init__(self, url: str, tenant_id: str) -> None:
        logging.getLogger("clickhouse_connect").setLevel(logging.CRITICAL)  # its absence is no news
        self._client = Client(url, _TIMEOUT_S)
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
        """How many sessions are recorded as archived on request; 0 when it can't be asked."""
        found = await self._ask(_CLOSED)
        return int(found[0][0]) if found else 0

    async def ledger(self) -> dict[str, int]:
        """Millionths of a US dollar by provider session; nothing when it can't be asked."""
        return {str(one): int(total) for one, total in await self._ask(_LEDGER, timeout=60) or ()}

    async def wrong_sums(self) -> list[str]:
        """Figures of the views that are not what the events come to; that they can't be had is one too."""
        try:
            return await asyncio.to_thread(wrong_sums, self._named)
        except (ClickHouseError, OSError) as error:
            return [f"the archive can't be asked: {type(error).__name__}"]

    def _named(self, sql: str) -> list[dict[str, Any]]:
        rows, columns = self._client.ask(sql, {"tenant": self._tenant_id}, 60)
        return [dict(zip(columns, row, strict=True)) for row in rows]

    async def _ask(
        self, sql: str, timeout: float = _TIMEOUT_S, **more: Any
    ) -> list[tuple[Any, ...]] | None:
        try:
            return await self._client.query(sql, timeout=timeout, tenant=self._tenant_id, **more)
        except (ClickHouseError, OSError):
            return None
