"""The demo's reading of ClickHouse, with the client and the URL that analysts use."""

import asyncio
import time
from collections.abc import Sequence
from typing import Any

from infra.clients.archive import ArchiveClient
from infra.clients.gateway import Gateway
from infra.demo.table import table
from infra.demo.talk import DemoFailed, Talk
from infra.demo.tree import Span

_WAIT_S = 60.0
_POLL_S = 0.2
_TURNS = """
SELECT session_id, turn_id, status, attempts, tool_calls, input_tokens, output_tokens,
       round(toFloat64(first_token_seconds), 3) AS first_token_s,
       round(toFloat64(total_seconds), 3) AS total_s
FROM turn_facts WHERE session_id IN {ids:Array(String)} ORDER BY submitted_at, turn_id
"""
_TYPES = """
SELECT type, count() AS events, uniqExact(session_id) AS sessions
FROM events WHERE session_id IN {ids:Array(String)} GROUP BY type ORDER BY events DESC, type
"""
_SPANS = """
SELECT SpanId, ParentSpanId, SpanName, ServiceName, Timestamp, Duration, StatusCode
FROM otel_traces WHERE TraceId = {trace:String} LIMIT 1 BY SpanId
"""
_NEEDED = {"gateway", "agent-worker"}


class Landed:
    """What landed in the archive. Each wait ends after 60 s with DemoFailed."""

    def __init__(self, archive: ArchiveClient) -> None:
        self._archive = archive

    async def show(self, gateway: Gateway, talks: Sequence[Talk]) -> str:
        """Two tables, once every event and turn of the talks has landed; see `_complete`."""
        await self._complete(gateway, talks)
        ids = [talk.session_id for talk in talks]
        turns, turn_columns = await self._archive.table(_TURNS, ids=ids)
        types, type_columns = await self._archive.table(_TYPES, ids=ids)
        return f"{table(turn_columns, turns)}\n\n{table(type_columns, types)}"

    async def spans(self, trace_id: str) -> list[Span]:
        """All spans of a trace, once gateway and worker have sent theirs and no more come."""
        before: list[Span] = []
        deadline = time.monotonic() + _WAIT_S
        while time.monotonic() < deadline:
            rows = await self._archive.query(_SPANS, trace=trace_id)
            now = [_span(row) for row in rows]
            services = {name for name in _NEEDED for span in now if name in span.service}
            if services == _NEEDED and len(now) == len(before):
                return now
            before = now
            await asyncio.sleep(1.0)
        found = sorted({f"{span.service}: {span.name}" for span in before})
        raise DemoFailed(f"trace {trace_id} is not whole after {_WAIT_S:.0f} s; spans: {found}")

    async def _complete(self, gateway: Gateway, talks: Sequence[Talk]) -> None:
        """Return when the archive holds each session's events 1..last_seq and all its turns."""
        wanted = {}
        for talk in talks:
            session = await gateway.get(f"/v1/sessions/{talk.session_id}")
            wanted[talk.session_id] = (session["last_seq"], len(talk.turn_ids))
        deadline = time.monotonic() + _WAIT_S
        while missing := _missing(wanted, await self._counts(list(wanted))):
            if time.monotonic() > deadline:
                raise DemoFailed(f"rows do not match after {_WAIT_S:.0f} s: {'; '.join(missing)}")
            await asyncio.sleep(_POLL_S)

    async def _counts(self, ids: list[str]) -> dict[str, tuple[int, int, int, int]]:
        """Session -> rows, different seqs, highest seq, completed turns."""
        events = await self._archive.query(
            "SELECT session_id, count(), uniqExact(seq), max(seq) FROM events "
            "WHERE session_id IN {ids:Array(String)} GROUP BY session_id",
            ids=ids,
        )
        turns = await self._archive.query(
            "SELECT session_id, countIf(status = 'completed') FROM turn_facts "
            "WHERE session_id IN {ids:Array(String)} GROUP BY session_id",
            ids=ids,
        )
        done = {row[0]: row[1] for row in turns}
        return {row[0]: (row[1], row[2], row[3], done.get(row[0], 0)) for row in events}


def _missing(
    wanted: dict[str, tuple[int, int]], found: dict[str, tuple[int, int, int, int]]
) -> list[str]:
    """In words, what of each session is not there or there twice."""
    complaints = []
    for session_id, (last_seq, turns) in wanted.items():
        rows, different, highest, done = found.get(session_id, (0, 0, 0, 0))
        if not rows == different == highest >= last_seq or done != turns:
            complaints.append(
                f"{session_id}: {rows} rows, {different} seqs up to {highest}, {done} turns; "
                f"wanted {last_seq} and {turns}"
            )
    return complaints


def _span(row: Sequence[Any]) -> Span:
    span_id, parent_id, name, service, start, duration, status = row
    failed = str(status).lower().endswith("error")
    return Span(span_id, parent_id, name, service, start, int(duration), failed)
