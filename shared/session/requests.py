"""Decisions on requests from outside."""

from __future__ import annotations

from collections.abc import Callable
from datetime import timedelta
from typing import Any, Literal

from msgspec import UNSET, UnsetType
from msgspec.structs import replace

from shared.moment import normal, parse, rfc3339
from shared.session import budget, connection
from shared.session.commands import Answer, Close, DeadLetter, Open
from shared.session.decision import Draft
from shared.session.events import (
    SessionAnswerRefused,
    SessionClosed,
    SessionOpened,
    SessionParked,
    SessionUnparked,
    Turn,
    TurnAccepted,
    TurnError,
)
from shared.session.inputs import (
    ArchiveRequested,
    BudgetRaised,
    EraseRequested,
    Filed,
    InterruptRequested,
    Request,
    SessionRequested,
    ToolAnswered,
    ToolConfirmed,
    TurnDropped,
    TurnParked,
    TurnRequested,
)
from shared.session.policy import MAX_QUEUED_TURNS, Policy
from shared.session.resources import used
from shared.session.state import CLOSED, SessionState
from shared.session.steering import steer
from shared.session.turn_ends import after_turn, begin, interrupt
from shared.trace_context import parted

# Why an answer that no call waits for is refused.
UNKNOWN_ACTION = "unknown_action"


def requested(draft: Draft, filed: Filed, policy: Policy) -> None:
    """Decide on a filed request. Its own time is the publisher's, which may be any, and stays that of
    `turn.accepted`; everything else happens at ours."""
    request = replace(filed.request, at=normal(filed.request.at))
    filed = replace(filed, received_at=normal(filed.received_at or request.at))
    REQUESTED[type(request)](draft, filed, request, policy)
    steer(draft, at=max(filed.received_at, filed.taken_at))


def _session_requested(
    draft: Draft, filed: Filed, request: SessionRequested, policy: Policy
) -> None:
    if draft.state.status == "new":
        names = SessionOpened.__struct_fields__
        opened = SessionOpened(**{name: getattr(request, name) for name in names})
        resources = tuple(request.resources or ()) or UNSET
        opened = replace(opened, prewarm=request.prewarm or UNSET, resources=resources)
        draft.own("session.opened", opened, at=filed.received_at)
        if request.prewarm:
            draft.ask(Open(turn_id=""))


def _turn_requested(draft: Draft, filed: Filed, request: TurnRequested, policy: Policy) -> None:
    if draft.state.status == "new":
        opened = SessionOpened(user_id=request.user_id, agent=request.agent, mode=request.mode)
        draft.own("session.opened", opened, at=filed.received_at)
    refusal = _refusal(draft.state, request)
    if refusal is not None:
        _refuse_unheard(draft, filed, request, refusal)
        return
    traceparent, tracestate = parted(filed.traceparent)
    accepted = TurnAccepted(
        turn_id=request.turn_id,
        user_id=request.user_id,
        status="accepted",
        submitted_at=filed.received_at,
        content=request.said,
        input_id=filed.input_id,
        on_busy=request.on_busy,
        traceparent=traceparent,
        tracestate=tracestate or UNSET,
        deadline_at=_deadline_at(filed, request),
        resources=used(draft.state.resources, request.said) or UNSET,
        gathers_until=_gathers_until(draft.state, filed, request, policy),
        behind=_behind(draft.state, request),
    )
    busy = draft.state.turn is not None
    draft.own(
        "turn.accepted",
        accepted,
        at=request.at,
        turn_id=request.turn_id,
        traceparent=filed.traceparent,
    )
    if busy and request.on_busy == "interrupt":
        interrupt(draft, at=filed.received_at)
    elif not busy and draft.state.turn is not None and accepted.gathers_until is None:
        begin(draft, at=max(filed.received_at, filed.taken_at))  # it may have waited for a worker


def _deadline_at(filed: Filed, request: TurnRequested) -> str | UnsetType:
    if request.deadline_seconds is None:
        return UNSET
    return rfc3339(parse(filed.received_at) + timedelta(seconds=request.deadline_seconds))


def _gathers_until(
    state: SessionState, filed: Filed, request: TurnRequested, policy: Policy
) -> str | None:
    """A turn that may be coalesced and finds nothing running waits a moment for others like it."""
    busy = state.turn is not None or bool(state.queue)
    if busy or request.on_busy != "coalesce" or policy.coalesce_for <= 0:
        return None
    taken = parse(filed.taken_at or filed.received_at)
    return rfc3339(taken + timedelta(seconds=policy.coalesce_for))


def _behind(state: SessionState, request: TurnRequested) -> str | UnsetType:
    """What a turn waits behind that interrupts, steers or may be coalesced: turns go to the agent in the order in
    which they were accepted. Those that may be coalesced go out with those that gather, and overtake nobody."""
    joins = request.on_busy == "coalesce" and state.gathering and not state.queue
    if request.on_busy == "enqueue" or joins or state.parks(request.turn_id):
        return UNSET
    last = state.queue[-1].turn.turn_id if state.queue else state.open_turn
    return UNSET if last is None else last


def _refusal(state: SessionState, request: TurnRequested) -> TurnError | None:
    if state.status in CLOSED:
        return TurnError(type=f"session_{state.status}", message=f"the session is {state.status}")
    if state.parks(request.turn_id):
        return None
    if state.turn is not None and request.on_busy == "reject":
        return TurnError(type="session_busy", message=f"turn {state.open_turn} is running")
    if state.queue and request.on_busy == "reject":
        first = state.queue[0].turn.turn_id
        return TurnError(type="session_busy", message=f"turn {first} is parked: a dead letter")
    if len(state.queue) >= MAX_QUEUED_TURNS:
        return TurnError(type="queue_full", message=f"{MAX_QUEUED_TURNS} turns are waiting already")
    return None


def _refuse_unheard(draft: Draft, filed: Filed, request: TurnRequested, error: TurnError) -> None:
    refused = Turn(
        turn_id=request.turn_id,
        user_id=request.user_id,
        status="refused",
        submitted_at=filed.received_at,
        ended_at=filed.received_at,
        error=error,
    )
    draft.own(
        "turn.refused",
        refused,
        at=filed.received_at,
        turn_id=request.turn_id,
        traceparent=filed.traceparent,
    )


def _interrupt_requested(
    draft: Draft, filed: Filed, request: InterruptRequested, policy: Policy
) -> None:
    interrupt(draft, at=filed.received_at)


def _tool_confirmed(draft: Draft, filed: Filed, request: ToolConfirmed, policy: Policy) -> None:
    action = connection.asked_by(draft.state, request.tool_use_id)
    if action is None:
        _answer(draft, filed, request.tool_use_id, "confirmation", at=request.at)
    elif request.result == "deny":
        connection.leave(draft, at=filed.received_at, words="connecting it was denied")
        after_turn(draft, at=filed.received_at)
    elif connection.made(draft, action, at=filed.received_at):
        begin(draft, at=max(filed.received_at, filed.taken_at))


def _tool_answered(draft: Draft, filed: Filed, request: ToolAnswered, policy: Policy) -> None:
    _answer(draft, filed, request.custom_tool_use_id, "custom_tool", at=request.at)


def _answer(
    draft: Draft,
    filed: Filed,
    tool_use_id: str,
    kind: Literal["confirmation", "custom_tool"],
    *,
    at: str,
) -> None:
    """Hand the answer on to the call that waits for it. Where none does, say so where whoever gave it can read it,
    and put it aside; a session that never was opened has no place to say it."""
    if draft.state.status == "erased":
        return  # a dead letter would keep what was answered
    for action in draft.state.pending:
        if action.tool_use_id == tool_use_id and action.kind == kind:
            draft.ask(Answer(tool_use_id=tool_use_id, input_id=filed.input_id))
            return
    detail = f"no tool call {tool_use_id} waits for a {kind} in this session"
    if draft.state.status != "new":
        refused = SessionAnswerRefused(
            input_id=filed.input_id,
            input_type="tool.confirmed" if kind == "confirmation" else "tool.answered",
            tool_use_id=tool_use_id,
            reason=UNKNOWN_ACTION,
            detail=detail,
        )
        draft.own("session.answer_refused", refused, at=at, traceparent=filed.traceparent)
    draft.ask(DeadLetter(input_id=filed.input_id, reason=UNKNOWN_ACTION, detail=detail))


def _budget_raised(draft: Draft, filed: Filed, request: BudgetRaised, policy: Policy) -> None:
    budget.asked(draft, filed, request)


def _turn_parked(draft: Draft, filed: Filed, request: TurnParked, policy: Policy) -> None:
    """Later turns wait for one that is a dead letter; those that came before it do not."""
    if draft.state.status in CLOSED or len(draft.state.queue) >= MAX_QUEUED_TURNS:
        return
    if draft.state.parks(request.turn_id):  # redriven, and dead again
        return
    if draft.state.status == "new":
        draft.own("session.opened", SessionOpened(user_id=request.user_id), at=filed.received_at)
    data = SessionParked(turn_id=request.turn_id, reason=request.reason)
    draft.own("session.parked", data, at=filed.received_at)


def _turn_dropped(draft: Draft, filed: Filed, request: TurnDropped, policy: Policy) -> None:
    if not draft.state.parks(request.turn_id):
        return
    busy = draft.state.turn is not None
    draft.own("session.unparked", SessionUnparked(turn_id=request.turn_id), at=filed.received_at)
    if not busy and draft.state.turn is not None:
        begin(draft, at=max(filed.received_at, filed.taken_at))


def _archive_requested(
    draft: Draft, filed: Filed, request: ArchiveRequested, policy: Policy
) -> None:
    if draft.state.status not in CLOSED:
        _close(draft, "session.archived", at=filed.received_at, erase=False)


def _erase_requested(draft: Draft, filed: Filed, request: EraseRequested, policy: Policy) -> None:
    if draft.state.status != "erased":
        _close(draft, "session.erased", at=filed.received_at, erase=True)


def _close(draft: Draft, kind: str, *, at: str, erase: bool) -> None:
    """Take no more turns: refuse those that wait, interrupt the open one, then close at the provider."""
    if draft.state.status == "new":
        draft.own("session.opened", SessionOpened(user_id=""), at=at)
    word = kind.removeprefix("session.")
    for queued in draft.state.queue:
        if queued.parked:
            continue  # the session never took it: what becomes of it is said when it is redriven
        error = TurnError(type=f"session_{word}", message=f"the session was {word} first")
        dropped = _ended(queued.turn, error, at=at)
        draft.own("turn.refused", dropped, at=at, turn_id=queued.turn.turn_id)
    draft.own(kind, SessionClosed(reason="requested"), at=at)
    interrupt(draft, at=at)
    if draft.state.provider_session_id is not None:
        draft.ask(Close(provider_session_id=draft.state.provider_session_id, erase=erase))


def _ended(turn: Turn, error: TurnError, *, at: str) -> Turn:
    return Turn(
        turn_id=turn.turn_id,
        user_id=turn.user_id,
        status="refused",
        submitted_at=turn.submitted_at,
        ended_at=at,
        error=error,
    )


REQUESTED: dict[type[Request], Callable[[Draft, Filed, Any, Policy], None]] = {
    SessionRequested: _session_requested,
    TurnRequested: _turn_requested,
    InterruptRequested: _interrupt_requested,
    ToolConfirmed: _tool_confirmed,
    ToolAnswered: _tool_answered,
    BudgetRaised: _budget_raised,
    ArchiveRequested: _archive_requested,
    EraseRequested: _erase_requested,
    TurnParked: _turn_parked,
    TurnDropped: _turn_dropped,
}
