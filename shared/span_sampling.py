"""Which traces are kept: all of a quiet process's, and so many a second of a busy one.

Decided where a trace begins and carried in its `traceparent`, so that a trace is kept whole or, but for attempts
that failed (`shared.telemetry`), not at all.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence

from opentelemetry.context import Context
from opentelemetry.sdk.trace.sampling import Decision, Sampler, SamplingResult
from opentelemetry.trace import Link, SpanKind, TraceState
from opentelemetry.util.types import Attributes

_KEPT = SamplingResult(Decision.RECORD_AND_SAMPLE)
_DROPPED = SamplingResult(Decision.DROP)


class PerSecond(Sampler):
    """Keeps the first `most` traces that begin in each second of `clock` (seconds); none at 0."""

    def __init__(self, most: float, clock: Callable[[], float] = time.monotonic) -> None:
        self._most = most
        self._clock = clock
        self._second = -1
        self._kept = 0

    def should_sample(
        self,
        parent_context: Context | None,
        trace_id: int,
        name: str,
        kind: SpanKind | None = None,
        attributes: Attributes = None,
        links: Sequence[Link] | None = None,
        trace_state: TraceState | None = None,
    ) -> SamplingResult:
        """Whether the trace that begins now is kept."""
        second = int(self._clock())
        if second != self._second:
            self._second, self._kept = second, 0
        if self._kept >= self._most:
            return _DROPPED
        self._kept += 1
        return _KEPT

    def get_description(self) -> str:
        return f"PerSecond{{{self._most:g}}}"
