"""Trace contexts' texts (`shared.trace_context`) as what the OpenTelemetry API knows, and back."""

from __future__ import annotations

import re
from functools import lru_cache

from opentelemetry.trace import SpanContext, TraceFlags, TraceState

from shared.trace_context import parted

NOTHING = SpanContext(0, 0, is_remote=True)
_NO_TRACE, _NO_SPAN = "0" * 32, "0" * 16
_FORM = re.compile(r"([0-9a-f]{2})-([0-9a-f]{32})-([0-9a-f]{16})-([0-9a-f]{2})(-.*)?")


# A batch names the same parents again and again; reading one costs as much as a short span.
@lru_cache(maxsize=4096)
def read(text: str) -> SpanContext:
    """The context; NOTHING when the text is none or malformed.

    Version ff and ids of zeros are invalid; versions after 00 may have more fields behind a dash.
    """
    parent, state = parted(text)
    match = _valid(parent)
    if match is None:
        return NOTHING
    trace_id, span_id = int(match[2], 16), int(match[3], 16)
    flags = TraceFlags(int(match[4], 16))
    carried = TraceState.from_header([state]) if state else None
    return SpanContext(trace_id, span_id, is_remote=True, trace_flags=flags, trace_state=carried)


def trace_id_of(text: str) -> str:
    """The 32 hex digits of the trace; "" when the text is none or malformed."""
    match = _valid(parted(text)[0])
    return match[2] if match else ""


def _valid(parent: str) -> re.Match[str] | None:
    match = _FORM.fullmatch(parent)
    if match is None or match[1] == "ff" or (match[1] == "00" and match[5]):
        return None
    return None if match[2] == _NO_TRACE or match[3] == _NO_SPAN else match


def write(context: SpanContext) -> str:
    """The text; "" for an invalid context."""
    if not context.is_valid:
        return ""
    text = f"00-{context.trace_id:032x}-{context.span_id:016x}-{context.trace_flags:02x}"
    return f"{text} {context.trace_state.to_header()}" if context.trace_state else text
