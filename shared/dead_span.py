"""Dead letters are traced in the trace of the record they carry."""

from __future__ import annotations

from contextlib import AbstractContextManager

from shared import telemetry
from shared.bus.envelope import Headers, traceparent_of
from shared.bus.topics import DEAD
from shared.telemetry import Span, SpanKind


def dead_span(headers: Headers, reason: str) -> AbstractContextManager[Span]:
    """Around sending a dead letter with these headers; a record that carried no trace begins one."""
    return telemetry.span(
        "send turnstile.dead.v1",
        parent=traceparent_of(headers),
        kind=SpanKind.PRODUCER,
        attributes={
            "messaging.system": "kafka",
            "messaging.operation.name": "send",
            "messaging.destination.name": DEAD.name,
            "turnstile.dead.reason": reason,
        },
    )
