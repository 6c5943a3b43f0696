"""The spans of a trace, read from `otel_traces`, as an operator does."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from typing import Any

from tests.e2e.archive import Archive
from tests.e2e.waiting import eventually

LAST = "INSERT session_events"  # of a turn's trace, when all went well
_COLUMNS = (
    "SpanId, ParentSpanId, SpanName, ServiceName, ScopeName, SpanAttributes, Links.SpanId,"
    " toUnixTimestamp64Nano(Timestamp), Duration"
)


@dataclass(frozen=True, slots=True)
class Span:
    """One span; `start` and `duration` in nanoseconds."""

    id: str
    parent: str
    name: str
    service: str
    scope: str
    attributes: dict[str, str]
    links: list[str]
    start: int
    duration: int


class Trace:
    """All spans of one trace."""

    def __init__(self, spans: list[Span]) -> None:
        self.spans = spans
        self._by_id = {span.id: span for span in spans}

    @property
    def names(self) -> set[str]:
        return {span.name for span in self.spans}

    @property
    def tops(self) -> list[Span]:
        """The spans whose parent is none of the trace's own: the root, and orphans."""
        return [span for span in self.spans if span.parent not in self._by_id]

    def named(self, name: str) -> list[Span]:
        """In the order of their start."""
        return sorted((s for s in self.spans if s.name == name), key=lambda span: span.start)

    def above(self, span: Span) -> list[str]:
        """The names of the spans it hangs below, the nearest first."""
        names: list[str] = []
        while (parent := self._by_id.get(span.parent)) is not None:
            names.append(parent.name)
            span = parent
        return names


async def traced(archive: Archive, trace_id: str, *names: str) -> Trace:
    """The trace once spans of these names are in it, each as often as it is named: each process exports its own,
    when it likes."""
    wanted = Counter(names)

    async def look() -> Trace | None:
        sql = f"SELECT {_COLUMNS} FROM otel_traces WHERE TraceId = {{trace:String}}"
        rows: list[tuple[Any, ...]] = await archive.query(sql, trace=trace_id)
        trace = Trace([Span(*row) for row in rows])
        return trace if Counter(span.name for span in trace.spans) >= wanted else None

    return await eventually(look, f"trace {trace_id} has {names}")
