"""A span as a row of `otel_traces`, as the Collector's ClickHouse exporter writes it."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import msgspec
from opentelemetry.sdk.trace import ReadableSpan
from opentelemetry.trace import SpanKind, StatusCode

_KINDS = {
    SpanKind.INTERNAL: "Internal",
    SpanKind.SERVER: "Server",
    SpanKind.CLIENT: "Client",
    SpanKind.PRODUCER: "Producer",
    SpanKind.CONSUMER: "Consumer",
}
_STATUSES = {StatusCode.UNSET: "Unset", StatusCode.OK: "Ok", StatusCode.ERROR: "Error"}
_encode = msgspec.json.Encoder().encode


def json_rows(spans: Iterable[ReadableSpan]) -> bytes:
    """The spans as JSONEachRow, one line each."""
    # All spans of a process share one resource: its text is made once.
    resources: dict[int, dict[str, str]] = {}
    return b"\n".join(_encode(row(span, resources)) for span in spans)


def row(span: ReadableSpan, resources: dict[int, dict[str, str]] | None = None) -> dict[str, Any]:
    """One row. Timestamp is text with nanoseconds in UTC, Duration is nanoseconds; attributes are text maps.

    `resources` remembers the text of resources by their id() while their spans are at hand.
    """
    known = {} if resources is None else resources
    context, parent = span.get_span_context(), span.parent
    resource = known.get(id(span.resource))
    if resource is None:
        resource = known[id(span.resource)] = texts(span.resource.attributes)
    scope = span.instrumentation_scope
    start = span.start_time or 0
    return {
        "Timestamp": nanoseconds(start),
        "TraceId": f"{context.trace_id:032x}" if context else "",
        "SpanId": f"{context.span_id:016x}" if context else "",
        "ParentSpanId": f"{parent.span_id:016x}" if parent else "",
        "TraceState": context.trace_state.to_header() if context else "",
        "SpanName": span.name,
        "SpanKind": _KINDS[span.kind],
        "ServiceName": resource.get("service.name", ""),
        "ResourceAttributes": resource,
        "ScopeName": scope.name if scope else "",
        "ScopeVersion": (scope.version or "") if scope else "",
        "SpanAttributes": texts(span.attributes or {}),
        "Duration": max(0, (span.end_time or start) - start),
        "StatusCode": _STATUSES[span.status.status_code],
        "StatusMessage": span.status.description or "",
        **_events(span),
        **_links(span),
    }


def _events(span: ReadableSpan) -> dict[str, list[Any]]:
    return {
        "Events.Timestamp": [nanoseconds(event.timestamp) for event in span.events],
        "Events.Name": [event.name for event in span.events],
        "Events.Attributes": [texts(event.attributes or {}) for event in span.events],
    }


def _links(span: ReadableSpan) -> dict[str, list[Any]]:
    contexts = [link.context for link in span.links]
    return {
        "Links.TraceId": [f"{context.trace_id:032x}" for context in contexts],
        "Links.SpanId": [f"{context.span_id:016x}" for context in contexts],
        "Links.TraceState": [context.trace_state.to_header() for context in contexts],
        "Links.Attributes": [texts(link.attributes or {}) for link in span.links],
    }


def nanoseconds(moment: int) -> str:
    """Nanoseconds since 1970 as `seconds.nanoseconds`, which DateTime64(9) reads without loss."""
    return f"{moment // 1_000_000_000}.{moment % 1_000_000_000:09d}"


def texts(attributes: Mapping[str, Any]) -> dict[str, str]:
    """Attribute values as text, the way the collector does: bare text, lists as JSON, booleans in lower case."""
    return {
        name: value if isinstance(value, str) else _text(value)
        for name, value in attributes.items()
    }


def _text(value: Any) -> str:
    if isinstance(value, Sequence):
        return json.dumps(list(value), ensure_ascii=False)
    return json.dumps(value) if isinstance(value, bool | float) else str(value)
