"""Spans that cost less than the SDK's: starting and ending one of those costs as much as a message through
Kafka, and every request, input and event has several.

The API is OpenTelemetry's, so that spans of libraries nest in ours and ours in theirs. What is left out: locks (a
span here belongs to one task), limits, and events with stack traces.
"""

from __future__ import annotations

import random
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import Event, ReadableSpan
from opentelemetry.sdk.trace.sampling import Decision, Sampler
from opentelemetry.sdk.util.instrumentation import InstrumentationScope
from opentelemetry.trace import (
    Link,
    NonRecordingSpan,
    Span,
    SpanContext,
    SpanKind,
    Status,
    StatusCode,
    TraceFlags,
)

# Some ids of our contract are long; nothing we set on purpose is longer.
MAX_TEXT = 1024
_UNSET = Status(StatusCode.UNSET)
_SAMPLED = TraceFlags(TraceFlags.SAMPLED | TraceFlags.RANDOM_TRACE_ID)
# The module's own generator: seeded anew in a process that is forked.
_bits = random.getrandbits


class LightSpan(Span):
    """One span, handed to `done` once when it ends; later changes are ignored."""

    __slots__ = (
        "_attributes",
        "_context",
        "_done",
        "_end",
        "_events",
        "_kind",
        "_links",
        "_name",
        "_parent",
        "_start",
        "_status",
    )

    def __init__(
        self,
        name: str,
        context: SpanContext,
        parent: SpanContext | None,
        kind: SpanKind,
        attributes: Mapping[str, Any] | None,
        links: Sequence[Link],
        start: int,
        done: Callable[[LightSpan], None],
    ) -> None:
        self._name = name
        self._context = context
        self._parent = parent
        self._kind = kind
        self._attributes: dict[str, Any] = dict(attributes) if attributes else {}
        self._links = links
        self._start = start
        self._done = done
        self._end: int | None = None
        self._events: list[Event] = []
        self._status = _UNSET

    def get_span_context(self) -> SpanContext:
        return self._context

    def is_recording(self) -> bool:
        return self._end is None

    def set_attribute(self, key: str, value: Any) -> None:
        if self._end is None:
            self._attributes[key] = value

    def set_attributes(self, attributes: Mapping[str, Any]) -> None:
        if self._end is None:
            self._attributes.update(attributes)

    def add_event(
        self, name: str, attributes: Mapping[str, Any] | None = None, timestamp: int | None = None
    ) -> None:
        if self._end is None:
            self._events.append(Event(name, attributes, timestamp or time.time_ns()))

    def update_name(self, name: str) -> None:
        if self._end is None:
            self._name = name

    def set_status(self, status: Status | StatusCode, description: str | None = None) -> None:
        if self._end is None:
            self._status = status if isinstance(status, Status) else Status(status, description)

    def record_exception(
        self,
        exception: BaseException,
        attributes: Mapping[str, Any] | None = None,
        timestamp: int | None = None,
        escaped: bool = False,
    ) -> None:
        """The type only: the words of an error may quote what a user said."""
        kind = type(exception).__qualname__
        self.add_event("exception", {"exception.type": kind, **(attributes or {})}, timestamp)

    def end(self, end_time: int | None = None) -> None:
        """End it, now or at `end_time` (nanoseconds since 1970), but not before it began: clocks are set back."""
        if self._end is None:
            self._end = max(end_time or time.time_ns(), self._start)
            self._done(self)

    def readable(self, resource: Resource, scope: InstrumentationScope) -> ReadableSpan:
        """What exporters take. For the exporting thread."""
        return ReadableSpan(
            self._name,
            context=self._context,
            parent=self._parent,
            resource=resource,
            attributes={name: _cut(value) for name, value in self._attributes.items()},
            events=self._events,
            links=self._links,
            kind=self._kind,
            status=self._status,
            start_time=self._start,
            end_time=max(self._start, self._end or 0),
            instrumentation_scope=scope,
        )


class LightTracer:
    """Starts spans. `sampler` is the SDK's, asked at the root of a trace; below it the parent decides, as the SDK's
    default and every `parentbased_…` setting want it."""

    def __init__(self, sampler: Sampler, done: Callable[[LightSpan], None]) -> None:
        self._sampler = sampler
        self._follows = sampler.get_description().startswith("ParentBased")
        self._done = done

    def leaves_out(self, parent: SpanContext) -> bool:
        """Whether no part of this trace is kept, whatever it is."""
        return self._follows and parent.is_valid and not parent.trace_flags.sampled

    def start(
        self,
        name: str,
        parent: SpanContext,
        kind: SpanKind,
        attributes: Mapping[str, Any] | None,
        links: Sequence[Link],
        start: int | None = None,
        *,
        keep: bool = False,
    ) -> Span:
        """A span below `parent`; an invalid one means a new trace. `start` in nanoseconds since 1970. `keep`: also
        where its trace is not kept."""
        known = parent.is_valid
        trace_id = parent.trace_id if known else _bits(128) or 1
        if keep:
            flags, sampled = _SAMPLED, True
        elif self.leaves_out(parent):  # nobody will see its parts, so that they need no ids
            return NonRecordingSpan(parent)
        elif known and self._follows:
            flags, sampled = parent.trace_flags, True
        else:
            answer = self._sampler.should_sample(None, trace_id, name, kind, None, None)
            sampled = answer.decision is Decision.RECORD_AND_SAMPLE
            flags = _SAMPLED if sampled else TraceFlags(TraceFlags.RANDOM_TRACE_ID)
        state = parent.trace_state if known else None
        context = SpanContext(trace_id, _bits(64) or 1, False, flags, state)
        if not sampled:
            return NonRecordingSpan(context)
        above = parent if known else None
        began = start or time.time_ns()
        return LightSpan(name, context, above, kind, attributes, links, began, self._done)


def _cut(value: Any) -> Any:
    return value[:MAX_TEXT] if isinstance(value, str) else value
