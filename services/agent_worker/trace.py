"""The trace of the turn that a shell drives: one span an attempt, and below it what the provider's events tell.

Model requests and tool calls happen at the provider; their spans are rebuilt from its events, with its times. An
attempt after a failed one, or after a takeover, is linked to the one before and not nested in it.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime

import msgspec
from msgspec import Struct

from shared import metrics, telemetry
from shared.moment import parse
from shared.session import provider
from shared.session.events import TURN_ENDS, Event, Turn
from shared.session.state import SessionState
from shared.telemetry import Attributes, Running, SpanKind

TOOL_USES = frozenset({"agent.tool_use", "agent.mcp_tool_use", "agent.custom_tool_use"})
TOOL_RESULTS = frozenset(
    {"agent.tool_result", "agent.mcp_tool_result", "user.custom_tool_result", "user.tool_result"}
)
# Calls whose end is still awaited; a turn with more of them at once loses the spans of the oldest, nothing else.
MAX_OPEN = 256


class _SpanEnd(Struct, frozen=True):
    model_request_start_id: str = ""
    is_error: bool | None = False


class TurnTrace:
    """Follows one session's events; each method is told the state after them."""

    def __init__(self) -> None:
        self._turn_id: str | None = None
        self._attempt: Running | None = None
        self._earlier: Running | None = None
        self._parents: dict[str, str] = {}
        self._started: dict[str, tuple[datetime, str]] = {}

    def parent_of(self, event: Event) -> str:
        """The traceparent that an event's record carries: its turn's."""
        return self._parents.get(event.turn_id or "", "")

    def traceparent(self, state: SessionState) -> str:
        """Where spans of the open turn hang: its attempt's span, before that the turn's own parent."""
        if self._attempt is not None and self._turn_id == state.open_turn:
            return self._attempt.traceparent
        return self._parents.get(state.open_turn or "", "")

    def resume(self, state: SessionState, at: datetime) -> None:
        """Another process may have begun the open turn: what follows hangs below the turn's own parent."""
        self.know(state)
        if state.turn is not None and state.turn.status in ("running", "requires_action"):
            self._begin(state, at)

    def know(self, state: SessionState) -> None:
        """Remember the parents of the turns that are open or wait."""
        if state.turn is not None and state.progress is not None:
            self._parents[state.turn.turn_id] = state.progress.traceparent
        for queued in state.queue:
            self._parents[queued.turn.turn_id] = queued.traceparent

    def follow(self, events: Sequence[Event], state: SessionState) -> None:
        """Events were recorded; `state` is the one after them."""
        for event in events:
            if event.type == "turn.started":
                self._begin(state, parse(event.at))
            elif event.type == "turn.retrying":
                metrics.inc("turnstile_turn_retries_total", reason="provider")
                self._end(parse(event.at), error="retrying")
            elif event.type in TURN_ENDS:
                self._ended(event)
            else:
                self._provider(event)

    def _begin(self, state: SessionState, at: datetime) -> None:
        if state.turn is None or state.progress is None:
            return
        earlier = self._earlier if self._turn_id == state.open_turn else None
        self._turn_id = state.turn.turn_id
        self._attempt = telemetry.begin(
            "invoke_agent",
            parent=state.progress.traceparent,
            start=at,
            kind=SpanKind.CLIENT,
            links=[earlier.traceparent] if earlier else [],
            attributes={
                "gen_ai.operation.name": "invoke_agent",
                "gen_ai.provider.name": "anthropic",
                "gen_ai.agent.id": state.bound_agent or "",
                "gen_ai.conversation.id": state.provider_session_id or "",
                "turnstile.tenant_id": state.tenant_id,
                "turnstile.session_id": state.session_id,
                "turnstile.turn_id": state.turn.turn_id,
                "turnstile.attempt": state.failures + 1,
            },
        )

    def _ended(self, event: Event) -> None:
        turn = msgspec.json.decode(event.data, type=Turn)
        metrics.inc("turnstile_turns_ended_total", status=turn.status)
        if event.turn_id == self._turn_id:
            failed = turn.error.type if turn.error is not None else None
            self._end(parse(event.at), error=failed, status=turn.status)
        self._parents.pop(event.turn_id or "", None)

    def _end(self, at: datetime, *, error: str | None = None, status: str = "") -> None:
        if self._attempt is not None:
            self._attempt.end(at, attributes={"turnstile.turn.status": status}, error=error)
        self._earlier, self._attempt = self._attempt, None
        self._started.clear()

    def _provider(self, event: Event) -> None:
        if event.type == "span.model_request_start":
            self._note(event.event_id, event, "")
        elif event.type in TOOL_USES:
            self._note(event.event_id, event, provider.tool_use(event.data).name)
        elif event.type == "span.model_request_end":
            self._model_request(event)
        elif event.type in TOOL_RESULTS:
            self._tool_call(event)

    def _note(self, id: str, event: Event, name: str) -> None:
        if len(self._started) >= MAX_OPEN:
            self._started.pop(next(iter(self._started)))
        self._started[id] = (parse(event.at), name)

    def _model_request(self, event: Event) -> None:
        end = msgspec.json.decode(event.data, type=_SpanEnd)
        usage = provider.model_usage(event.data)
        attributes: Attributes = {
            "gen_ai.operation.name": "chat",
            "gen_ai.request.model": event.model or "",
            "gen_ai.usage.input_tokens": usage.input_tokens,
            "gen_ai.usage.output_tokens": usage.output_tokens,
            "gen_ai.usage.cache_read.input_tokens": usage.cache_read_tokens,
            "gen_ai.usage.cache_creation.input_tokens": usage.cache_write_tokens,
        }
        start, _ = self._started.pop(end.model_request_start_id, (None, ""))
        if start is not None and self._attempt is not None:
            telemetry.record(
                "chat",
                parent=self._attempt.traceparent,
                start=start,
                end=parse(event.at),
                kind=SpanKind.CLIENT,
                attributes=attributes,
                error="model_request_failed" if end.is_error else None,
            )

    def _tool_call(self, event: Event) -> None:
        call = provider.answered(event.data) or ""
        start, name = self._started.pop(call, (None, ""))
        if start is not None and self._attempt is not None:
            telemetry.record(
                "execute_tool",
                parent=self._attempt.traceparent,
                start=start,
                end=parse(event.at),
                attributes={
                    "gen_ai.operation.name": "execute_tool",
                    "gen_ai.tool.name": name,
                    "gen_ai.tool.call.id": call,
                },
                error="tool_error" if provider.is_error(event.data) else None,
            )
