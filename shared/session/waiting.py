"""Decisions after waiting in vain: for people who do not answer, and for a provider that says nothing more."""

from __future__ import annotations

from datetime import timedelta

from shared.moment import parse, rfc3339
from shared.session import budget, connection
from shared.session.commands import Deny, Interrupt
from shared.session.decision import Draft
from shared.session.events import TurnError, TurnStalled, TurnUnanswered
from shared.session.policy import Policy
from shared.session.state import SessionState
from shared.session.turn_ends import after_turn, retry, rotate


def deny(draft: Draft, *, at: str) -> None:
    """Deny the calls that nobody answered in time, so that the agent goes on without. A turn that waits for the
    budget or for a connection fails."""
    unanswered = draft.state.pending
    if draft.state.budget_pause is not None:
        budget.leave(draft, "turn.failed", at=at)
        after_turn(draft, at=at)
        return
    if draft.state.connection_pauses:
        connection.leave(draft, at=at, words="it was not connected in time")
        after_turn(draft, at=at)
        return
    extra = {"pending_actions": unanswered}
    draft.turn("turn.unanswered", at=at, shape=TurnUnanswered, extra=extra)
    for action in unanswered:
        draft.ask(Deny(tool_use_id=action.tool_use_id))


def works(state: SessionState) -> bool:
    """Whether the provider should be saying something."""
    sent = state.turn is not None and state.turn.status in ("running", "requires_action")
    return sent and not state.awaits_people and state.due_at is None


def stalled_at(state: SessionState, policy: Policy, heard_at: str) -> str | None:
    """When an agent that was heard last at `heard_at` counts as stalled; None: nothing is expected of it.

    While calls are open, that is when the last of them has had its time, and not soon after something was heard:
    the calls' times are the provider's, whose clock may be behind ours.
    """
    if not works(state):
        return None
    heard, call_for = parse(heard_at), timedelta(seconds=policy.call_for)
    since = [*(call.since for call in state.calls), *(action.since for action in state.pending)]
    if not since:
        return rfc3339(heard + timedelta(seconds=policy.silent_for))
    soonest = heard + timedelta(seconds=min(policy.silent_for, policy.call_for))
    return rfc3339(max(soonest, *(min(parse(at), heard) + call_for for at in since)))


def stall(draft: Draft, policy: Policy, *, since: str, at: str, chance: float) -> None:
    """The agent runs and says nothing: interrupt it, so that it goes on; when that is in vain, go on elsewhere."""
    turn = draft.state.turn
    if turn is None or turn.status != "running" or draft.state.provider_session_id is None:
        return
    if draft.progress.retry_at is not None:
        return
    last = draft.progress.stalls + 1 >= policy.max_stalls
    extra = {"silent_since": since, "action": "rotate" if last else "interrupt"}
    draft.turn("turn.stalled", at=at, shape=TurnStalled, extra=extra)
    if last:
        error = TurnError(type="stalled", message=f"the provider has said nothing since {since}")
        rotate(draft, error.type, at=at)
        retry(draft, policy, error, at=at, chance=chance)
    else:
        draft.ask(Interrupt(turn_id=turn.turn_id))
