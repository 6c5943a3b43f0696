"""A session's budget: a turn that reaches it waits until somebody raises it, and goes on then.

Where the agent stopped in the middle of the turn the provider goes on by itself once the budget is raised there;
where the turn's message was not sent yet, it is sent then. Nobody raises it in time: the turn fails. The provider
can't end what it holds at a budget, and would go on with it after a later raise: such a session is given up.
"""

from __future__ import annotations

from datetime import timedelta

import msgspec
from msgspec import Raw, Struct

from shared.moment import parse, rfc3339
from shared.session.commands import DeadLetter, RaiseBudget
from shared.session.decision import Draft
from shared.session.events import (
    PendingAction,
    SessionAnswerRefused,
    SessionBudgetRaised,
    SessionRotated,
    TurnError,
    TurnRequiresAction,
)
from shared.session.inputs import BudgetRaised, BudgetRefused, BudgetSet, Filed
from shared.session.state import CLOSED, SessionState

BUDGET_REACHED = "budget_reached"
# Why a budget that somebody asked for is refused.
NOT_RAISED, NOT_THERE, SESSION_CLOSED = "budget_not_raised", "budget_create_only", "session_closed"
USED_UP = "the session's budget_usd is used up, and was not raised in time"


class _Used(Struct, frozen=True):
    budget_usd: float | None
    cost_usd: float


def used_up(state: SessionState) -> bool:
    """Whether the open turn's message can't go out for want of budget: nothing is left for another provider
    session, or the one that is there has used its own up."""
    if state.provider_session_id is None:
        return state.budget_left == 0
    return state.at_budget


def pause(draft: Draft, *, at: str, now: str, stop: str = "") -> None:
    """Have the open turn wait for a higher budget. `now` is the worker's time, `stop` the provider's event that
    stopped it, "" for a turn whose message was not sent."""
    state = draft.state
    if state.budget_pause is not None:
        return
    used = _Used(budget_usd=state.budget_usd, cost_usd=state.cost_usd)
    action = PendingAction(
        tool_use_id=stop or f"budget:{state.open_turn}",
        kind="budget",
        name="budget_usd",
        input=Raw(msgspec.json.encode(used)),
        since=at,
    )
    answer_by = None
    if draft.policy.answer_within is not None:
        answer_by = rfc3339(parse(now) + timedelta(seconds=draft.policy.answer_within))
    extra = {"pending_actions": (*state.pending, action), "answer_by": answer_by}
    draft.turn("turn.requires_action", at=at, shape=TurnRequiresAction, extra=extra)


def leave(draft: Draft, kind: str, *, at: str, error: TurnError | None = None) -> None:
    """End a turn that waits for the budget by an event of this `kind`, because of `error` if not of the budget. A
    later raise must not set the agent to work on it again."""
    state = draft.state
    open_there = state.provider_session_id is not None and draft.progress.prompted
    if open_there and state.status not in CLOSED:
        draft.settle(at=at)
        lost = SessionRotated(
            provider_session_id=state.provider_session_id or "", reason=BUDGET_REACHED
        )
        draft.own("session.rotated", lost, at=at)
    if kind == "turn.failed":
        error = TurnError(type=BUDGET_REACHED, message=USED_UP)
    draft.end(kind, at=at, stop_reason=BUDGET_REACHED, error=error)


def asked(draft: Draft, filed: Filed, request: BudgetRaised) -> None:
    """A budget was asked for: raise it at the provider first, where there is a provider session."""
    state, waits = draft.state, draft.state.budget_pause
    if state.status == "erased":
        return
    refusal = _refusal(state, request.budget_usd)
    pause_id = waits.tool_use_id if waits else ""
    if refusal is not None:
        _refuse(draft, filed.input_id, *refusal, pause=pause_id, at=filed.received_at)
    elif request.budget_usd != state.budget_usd:
        draft.ask(
            RaiseBudget(input_id=filed.input_id, budget_usd=request.budget_usd, pause=pause_id)
        )


def _refusal(state: SessionState, budget_usd: float) -> tuple[str, str] | None:
    if state.status in ("new", "archived"):
        return (
            SESSION_CLOSED,
            f"the session is {'unknown' if state.status == 'new' else 'archived'}",
        )
    if state.budget_usd is None and state.provider_session_id is not None:
        return NOT_THERE, "the session began without a budget_usd: one can't be added any more"
    held = state.budget_usd or 0.0
    again = budget_usd == held and state.budget_pause is None
    if budget_usd < held or (budget_usd == held and not again):
        return NOT_RAISED, f"budget_usd {budget_usd} is not above {held}, what it is now"
    left = state.allowance(budget_usd)
    if left <= state.consumed and not again:
        least = (state.consumed + 1 + round(budget_usd * 100) - left) / 100
        return NOT_RAISED, f"budget_usd {budget_usd} is used up already: it takes {least} or more"
    return None


def refused(draft: Draft, refusal: BudgetRefused) -> None:
    """The provider does not take the budget: the turn goes on waiting for another."""
    if draft.state.status != "erased":
        waits = draft.state.budget_pause
        pause_id = waits.tool_use_id if waits else ""
        about = (refusal.input_id, refusal.reason, refusal.detail)
        _refuse(draft, *about, pause=pause_id, at=refusal.at)


def _refuse(draft: Draft, input_id: str, reason: str, detail: str, *, pause: str, at: str) -> None:
    if draft.state.status != "new":
        event = SessionAnswerRefused(
            input_id=input_id,
            input_type="budget.raised",
            tool_use_id=pause,
            reason=reason,
            detail=detail,
        )
        draft.own("session.answer_refused", event, at=at)
    draft.ask(DeadLetter(input_id=input_id, reason=reason, detail=detail))


def raised(draft: Draft, done: BudgetSet) -> bool:
    """Record that the budget holds; returns whether the open turn is to begin (again): its message is not with this
    provider session."""
    state, waits = draft.state, draft.state.budget_pause
    if state.status in CLOSED:
        return False
    unsent = waits is not None and not (state.provider_session_id and draft.progress.prompted)
    settled = waits is not None and (unsent or waits.tool_use_id == done.pause)
    data = SessionBudgetRaised(
        budget_usd=done.budget_usd, resumes=waits.tool_use_id if waits and settled else None
    )
    draft.own("session.budget_raised", data, at=done.at)
    return unsent
