"""A record's death is seen in its own trace."""

from __future__ import annotations

import pytest

from shared.bus.envelope import Headers
from shared.dead_span import dead_span
from tests.builders import TRACEPARENT
from tests.tracing import parent_of, tracing

pytestmark = pytest.mark.unit


@pytest.mark.parametrize(
    ("headers", "parent"),
    [
        ([("ce_id", b"1"), ("traceparent", TRACEPARENT.encode())], TRACEPARENT),
        ([("TraceParent", TRACEPARENT.encode())], TRACEPARENT),
        ([("traceparent", b"\xff\xfe")], ""),
        ([("traceparent", b"nonsense")], ""),
        ([], ""),
    ],
)
def test_a_letter_is_sent_in_the_trace_of_its_record(headers: Headers, parent: str) -> None:
    with tracing() as kept:
        with dead_span(headers, "unknown_tenant"):
            pass
        span = kept.one("send turnstile.dead.v1")
    assert parent_of(span) == parent
    assert (span.attributes or {})["turnstile.dead.reason"] == "unknown_tenant"
