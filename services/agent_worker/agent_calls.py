"""Spans of the agent's model requests and tool calls, rebuilt from the provider's events.

The calls happen at the provider, and the spans have its times; where its clock is ahead of ours, they are moved
back as a whole, so that none ends after we heard of it.
"""

from __future__ import annotations

from datetime import datetime, timedelta

import msgspec
from msgspec import Struct

from shared import telemetry
from shared.moment import parse
from shared.session import provider
from shared.session.events import Event
from shared.session.lenient import read
from shared.telemetry import Attributes, SpanKind

TOOL_USES = {
    "agent.tool_use": "extension",
    "agent.mcp_tool_use": "extension",
    "agent.custom_tool_use": "function",
}
TOOL_RESULTS = frozenset(
    {"agent.tool_result", "agent.mcp_tool_result", "user.custom_tool_result", "user.tool_result"}
)
# Calls whose end is still awaited; a turn with more of them at once loses the spans of the oldest, nothing else.
MAX_OPEN = 256


class _End(Struct, frozen=True):
    model_request_start_id: str = ""
    is_error: bool | None = False


_end = msgspec.json.Decoder(_End)


class _Begun(Struct, frozen=True):
    at: datetime
    name: str = ""
    kind: str = ""


class AgentCalls:
    """Follows the provider's events of one attempt."""

    def __init__(self) -> None:
        self._begun: dict[str, _Begun] = {}

    def clear(self) -> None:
        """Wait for no end any more."""
        self._begun.clear()

    def follow(self, event: Event, parent: str, now: datetime) -> None:
        """An event was recorded by `now`; a call that it ends becomes a span below `parent`, a traceparent."""
        if event.type == "span.model_request_start":
            self._begin(event, _Begun(parse(event.at)))
        elif event.type in TOOL_USES:
            name = provider.tool_use(event.data).name
            self._begin(event, _Begun(parse(event.at), name, TOOL_USES[event.type]))
        elif event.type == "span.model_request_end":
            self._model_request(event, parent, now)
        elif event.type in TOOL_RESULTS:
            self._tool_call(event, parent, now)

    def _begin(self, event: Event, begun: _Begun) -> None:
        if len(self._begun) >= MAX_OPEN:
            self._begun.pop(next(iter(self._begun)))
        self._begun[event.event_id] = begun

    def _model_request(self, event: Event, parent: str, now: datetime) -> None:
        said = read(_end, event.data)
        begun = self._begun.pop(said.model_request_start_id, None)
        if begun is None:
            return
        start, end = _heard_by(now, begun.at, parse(event.at))
        telemetry.record(
            "chat",
            parent=parent,
            start=start,
            end=end,
            kind=SpanKind.CLIENT,
            attributes=_usage(event),
            error="model_request_failed" if said.is_error else None,
        )

    def _tool_call(self, event: Event, parent: str, now: datetime) -> None:
        call = provider.answered(event.data) or ""
        begun = self._begun.pop(call, None)
        if begun is None:
            return
        start, end = _heard_by(now, begun.at, parse(event.at))
        telemetry.record(
            "execute_tool",
            parent=parent,
            start=start,
            end=end,
            attributes={
                "gen_ai.operation.name": "execute_tool",
                "gen_ai.tool.name": begun.name,
                "gen_ai.tool.call.id": call,
                "gen_ai.tool.type": begun.kind,
            },
            error="tool_error" if provider.is_error(event.data) else None,
        )


def _heard_by(now: datetime, start: datetime, end: datetime) -> tuple[datetime, datetime]:
    """Start and end as far back as it takes for the end not to be after `now`; never the end before the start."""
    took = max(end - start, timedelta(0))
    end = min(start + took, now)
    return end - took, end


def _usage(event: Event) -> Attributes:
    usage = provider.model_usage(event.data)
    return {
        "gen_ai.operation.name": "chat",
        "gen_ai.request.model": event.model or "",
        # The convention counts all input, cached or not; the provider counts cached tokens by themselves.
        "gen_ai.usage.input_tokens": (
            usage.input_tokens + usage.cache_read_tokens + usage.cache_write_tokens
        ),
        "gen_ai.usage.output_tokens": usage.output_tokens,
        "gen_ai.usage.cache_read.input_tokens": usage.cache_read_tokens,
        "gen_ai.usage.cache_creation.input_tokens": usage.cache_write_tokens,
    }
