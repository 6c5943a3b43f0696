"""What comes of waiting in vain: for people who do not answer, and for a provider that says nothing more."""

from __future__ import annotations

from shared.session.attempts import retry, rotate
from shared.session.commands import Deny, Interrupt
from shared.session.decision import Draft
from shared.session.events import TurnError, TurnStalled, TurnUnanswered
from shared.session.policy import Policy


def deny(draft: Draft, *, at: str) -> None:
    """Nobody answered in time: answer in their stead, so that the agent goes on without."""
    unanswered = draft.state.pending
    extra = {"pending_actions": unanswered}
    draft.turn("turn.unanswered", at=at, shape=TurnUnanswered, extra=extra)
    for action in unanswered:
        draft.ask(Deny(tool_use_id=action.tool_use_id))


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
