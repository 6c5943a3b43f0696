"""The trace of the turn that a shell drives: the steps that lead to it, one span an attempt, the agent's own model
requests and tool calls; and the metrics of what was recorded.

An attempt after a failed one is linked to the one before, where this process made it, and not nested in it.
"""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import AbstractContextManager, nullcontext
from datetime import datetime, timedelta
from typing import Literal, NamedTuple

import msgspec
from msgspec import Struct

from shared import metrics, telemetry
from shared.bus.topics import EVENTS
from shared.moment import parse
from shared.session import provider
from shared.session.events import OWN_TYPES, TURN_ENDS, Event, SessionCharged, Turn, TurnRetrying
from shared.session.ledger import UNKNOWN
from shared.session.lenient import read
from shared.session.state import SessionState
from shared.telemetry import Attributes, Running, SpanKind

# A token's kind to its field in Usage.
TOKENS = {
    "input": "input_tokens",
    "output": "output_tokens",
    "cache_read": "cache_read_tokens",
    "cache_write": "cache_write_tokens",
}

# The provider's words for the end of an evaluation and of a workflow run; any other is counted as one.
VERDICTS = frozenset(
    {"satisfied", "needs_revision", "max_iterations_reached", "failed", "interrupted"}
)
ENDS = frozenset({"completed", "stopped", "error"})


def recorded(
    events: Sequence[Event], before: SessionState, after: SessionState, now: datetime
) -> None:
    """Count one write that brought `before` to `after`; call it once for each, as soon as it succeeded.

    Times of the provider and of publishers are by other clocks: a difference below zero counts as none.
    """
    for event in events:
        if event.type in TURN_ENDS:
            _ended(msgspec.json.decode(event.data, type=Turn))
        elif event.type == "turn.started":
            _started(msgspec.json.decode(event.data, type=Turn), now)
        elif event.type == "turn.retrying":
            reason = msgspec.json.decode(event.data, type=TurnRetrying).reason
            metrics.inc("turnstile_turn_retries_total", reason=reason)
        elif event.type == "session.charged":
            _unpriced(msgspec.json.decode(event.data, type=SessionCharged))
        else:
            _said(event)
    _spent(before, after)


def _started(turn: Turn, now: datetime) -> None:
    # By the worker's clock: the event has the time of what caused it, often the request's own.
    if turn.attempts == 1:
        metrics.observe("turnstile_turn_queue_seconds", _seconds(turn.submitted_at, now))


def _ended(turn: Turn) -> None:
    metrics.inc("turnstile_turns_ended_total", status=turn.status)
    if turn.ended_at is not None:
        seconds = _seconds(turn.submitted_at, parse(turn.ended_at))
        metrics.observe("turnstile_turn_seconds", seconds, status=turn.status)
    if turn.first_token_at is not None:
        seconds = _seconds(turn.submitted_at, parse(turn.first_token_at))
        metrics.observe("turnstile_turn_first_token_seconds", seconds)
    if turn.first_output_at is not None:
        seconds = _seconds(turn.submitted_at, parse(turn.first_output_at))
        metrics.observe("turnstile_turn_first_output_seconds", seconds)


def _said(event: Event) -> None:
    """What of the provider's own words an operator looks at in numbers."""
    if event.type == "span.outcome_evaluation_end":
        result = provider.verdict(event.data)
        known = result if result in VERDICTS else "other"
        metrics.inc("turnstile_outcome_evaluations_total", result=known)
    elif event.type == "workflow_run.status_ended":
        result = provider.run_result(event.data)
        metrics.inc("turnstile_workflow_runs_total", result=result if result in ENDS else "other")
    elif event.type == "workflow_run.error" and not provider.run_of(event.data):
        metrics.inc("turnstile_workflow_runs_total", result="refused")
    elif event.type == "agent.thread_context_compacted":
        metrics.inc("turnstile_compactions_total")
    elif event.type == "session.status_rescheduled":
        metrics.inc("turnstile_provider_reschedules_total")


def _unpriced(charged: SessionCharged) -> None:
    requests = sum(line.kind == "request" and line.price == UNKNOWN for line in charged.lines)
    if requests:
        metrics.inc("turnstile_unpriced_requests_total", requests)


def _spent(before: SessionState, after: SessionState) -> None:
    if after.cost_usd > before.cost_usd:
        metrics.inc("turnstile_cost_usd_total", after.cost_usd - before.cost_usd)
    if after.usage == before.usage:
        return
    for kind, field in TOKENS.items():
        tokens = getattr(after.usage, field) - getattr(before.usage, field)
        if tokens > 0:
            metrics.inc("turnstile_tokens_total", tokens, kind=kind)


def _seconds(since: str, until: datetime) -> float:
    return max(0.0, (until - parse(since)).total_seconds())


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
        """Forget the calls whose end was not seen."""
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


# Open turns whose last attempt is remembered for the link of the next; the oldest is forgotten first.
MAX_ATTEMPTS = 4096
WORKED_AT = ("running", "requires_action")
_TurnKey = tuple[str, str, str | None]


class Claim(NamedTuple):
    """A lease, and when it was asked for and had."""

    epoch: int
    asked: datetime
    had: datetime

    @classmethod
    def lately(cls, epoch: int, seconds: float, now: datetime) -> Claim:
        """A lease that is had now and was asked for that many seconds ago."""
        return cls(epoch, now - timedelta(seconds=seconds), now)


class Attempts:
    """The traceparents of the newest attempts, by turn, over all shells of a process."""

    def __init__(self) -> None:
        self._newest: dict[_TurnKey, str] = {}

    def before(self, state: SessionState) -> list[str]:
        """The newest attempt of the open turn, if this process made one."""
        newest = self._newest.get(_key(state, state.open_turn))
        return [newest] if newest else []

    def begun(self, state: SessionState, traceparent: str) -> None:
        """The open turn has a new attempt."""
        if len(self._newest) >= MAX_ATTEMPTS:
            self._newest.pop(next(iter(self._newest)))
        self._newest[_key(state, state.open_turn)] = traceparent

    def ended(self, state: SessionState, turn_id: str) -> None:
        """The turn has had its last attempt."""
        self._newest.pop(_key(state, turn_id), None)


def _key(state: SessionState, turn_id: str | None) -> _TurnKey:
    return state.tenant_id, state.session_id, turn_id


class TurnTrace:
    """Follows one session's events; each method is told the state after them."""

    def __init__(self, attempts: Attempts, claim: Claim | None = None) -> None:
        self._attempts = attempts
        self._claim = claim
        self._turn_id: str | None = None
        self._attempt: Running | None = None
        self._since: datetime | None = None
        self._watched = 0
        self._calls = AgentCalls()
        self._parents: dict[str, str] = {}

    def parent_of(self, event: Event) -> str:
        """The traceparent that an event's record carries: its turn's."""
        return self._parents.get(event.turn_id or "", "")

    def traceparent(self, state: SessionState) -> str:
        """Where spans of the open turn hang: its attempt's span, before that the turn's own parent."""
        if self._attempt is not None and self._turn_id == state.open_turn:
            return self._attempt.traceparent
        return state.progress.traceparent if state.progress is not None else ""

    def resume(self, state: SessionState, at: datetime) -> None:
        """Another process may have begun the open turn: what follows hangs below the turn's own parent."""
        self.know(state)
        waits = state.progress is not None and state.progress.retry_at is not None
        if state.turn is not None and state.turn.status in WORKED_AT and not waits:
            self._begin(state, at)

    def know(self, state: SessionState) -> None:
        """Remember the parents of the turns that are open or wait; what came of a claim is seen now."""
        if state.turn is not None and state.progress is not None:
            self._parents[state.turn.turn_id] = state.progress.traceparent
            self._claimed(state)
        for queued in state.queue:
            self._parents[queued.turn.turn_id] = queued.traceparent

    def writing(
        self, before: SessionState, after: SessionState, events: int
    ) -> AbstractContextManager[object]:
        """Around the write that brings `before` to `after`."""
        attributes = {"turnstile.events": events}
        return self._step("head.write", before, after, SpanKind.CLIENT, attributes)

    def saying(
        self, before: SessionState, after: SessionState, events: int
    ) -> AbstractContextManager[object]:
        """Around saying the events of that write."""
        attributes: Attributes = {
            "messaging.system": "kafka",
            "messaging.operation.name": "send",
            "messaging.destination.name": EVENTS.name,
            "messaging.batch.message_count": events,
        }
        kind = SpanKind.PRODUCER
        return self._step("send turnstile.events.v1", before, after, kind, attributes)

    def follow(self, events: Sequence[Event], state: SessionState, at: datetime) -> None:
        """Events were recorded and said, by now; `state` is the one after them."""
        self._claim = None
        for event in events:
            if event.type == "turn.started":
                self._begin(state, at)
            elif event.type == "turn.retrying":
                self._end(parse(event.at), error="retrying")
            elif event.type in TURN_ENDS:
                self._ended(event, state)
            elif self._attempt is not None and event.type not in OWN_TYPES:
                self._watched += 1
                self._calls.follow(event, self._attempt.traceparent, at)

    def leave(self, state: SessionState, at: datetime) -> None:
        """The session is given back, or lost; an attempt under way goes on elsewhere, in a span of its own."""
        self._end(at, status=state.turn.status if state.turn is not None else "")

    def _step(
        self,
        name: Literal["head.write", "send turnstile.events.v1"],
        before: SessionState,
        after: SessionState,
        kind: SpanKind,
        attributes: Attributes,
    ) -> AbstractContextManager[object]:
        """A span in the trace of the turn that was open, or is by now; none without a turn."""
        parent = self.traceparent(before if before.turn is not None else after)
        if not parent:
            return nullcontext()
        return telemetry.span(name, parent=parent, kind=kind, attributes=attributes)

    def _claimed(self, state: SessionState) -> None:
        claim, self._claim = self._claim, None
        parent = self.traceparent(state)
        if claim is not None and parent and state.turn is not None:
            # It may have been asked for before the turn came, and be answered with it.
            came = max(claim.asked, parse(state.turn.submitted_at))
            telemetry.record(
                "lease.claim",
                parent=parent,
                start=min(came, claim.had),
                end=claim.had,
                attributes={"turnstile.epoch": claim.epoch},
            )

    def _begin(self, state: SessionState, at: datetime) -> None:
        if state.turn is None or state.progress is None:
            return
        self._end(at)
        self._turn_id, self._since, self._watched = state.turn.turn_id, at, 0
        self._attempt = telemetry.begin(
            "invoke_agent",
            parent=state.progress.traceparent,
            start=at,
            kind=SpanKind.CLIENT,
            links=self._attempts.before(state),
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
        self._attempts.begun(state, self._attempt.traceparent)

    def _ended(self, event: Event, state: SessionState) -> None:
        turn = msgspec.json.decode(event.data, type=Turn)
        if turn.turn_id == self._turn_id:
            failed = turn.error.type if turn.error is not None else None
            self._end(parse(event.at), error=failed, status=turn.status)
        self._attempts.ended(state, turn.turn_id)
        self._parents.pop(turn.turn_id, None)

    def _end(self, at: datetime, *, error: str | None = None, status: str = "") -> None:
        if self._attempt is not None and self._since is not None:
            telemetry.record(
                "provider.watch",
                parent=self._attempt.traceparent,
                start=self._since,
                end=at,
                attributes={"turnstile.watch.events": self._watched},
            )
            self._attempt.end(at, attributes={"turnstile.turn.status": status}, error=error)
        self._attempt = None
        self._calls.clear()
