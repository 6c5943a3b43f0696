"""Spans of inserts, in the trace of each turn whose end they hold."""

from __future__ import annotations

from contextlib import AbstractContextManager
from datetime import datetime

from services.recorder.batch import Batch
from services.recorder.kafka import GROUP, TOPIC
from shared import telemetry
from shared.archive_insert import TABLE
from shared.telemetry import Attributes, Span, SpanKind


def batch_span(batch: Batch) -> AbstractContextManager[Span]:
    """Around everything that happens to a batch; linked to traces in it, a child of none."""
    return telemetry.span(
        "process turnstile.events.v1",
        kind=SpanKind.CONSUMER,
        links=[*batch.ends, *batch.links][:64],
        attributes={
            "messaging.system": "kafka",
            "messaging.operation.name": "process",
            "messaging.destination.name": TOPIC,
            "messaging.consumer.group.name": GROUP,
            "messaging.batch.message_count": batch.count,
        },
    )


def insert_span(batch: Batch) -> AbstractContextManager[Span]:
    """Around the insert itself, below the batch's span."""
    return telemetry.span(
        "INSERT session_events", kind=SpanKind.CLIENT, attributes=_attributes(batch)
    )


def archived(batch: Batch, start: datetime, end: datetime) -> None:
    """The insert once more in the trace of each turn that ended in the batch, linked to the batch's own."""
    here, attributes = telemetry.traceparent(), _attributes(batch)
    for parent in batch.ends:
        telemetry.record(
            "INSERT session_events",
            parent=parent,
            start=start,
            end=end,
            kind=SpanKind.CLIENT,
            attributes=attributes,
            links=[here],
        )


def _attributes(batch: Batch) -> Attributes:
    return {
        "db.system.name": "clickhouse",
        "db.operation.name": "INSERT",
        "db.collection.name": TABLE,
        "db.operation.batch.size": len(batch.rows),
    }
