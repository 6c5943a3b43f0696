"""How long a session in which nothing happens stays claimed, and the inputs that its silence is for the core."""

from __future__ import annotations

from shared.moment import parse
from shared.session.inputs import DeadlineElapsed, Input, Silent
from shared.session.policy import Policy
from shared.session.state import SessionState
from shared.session.waiting import stalled_at, works


def patience(
    state: SessionState, now: str, heard_at: str, *, linger: float, policy: Policy
) -> float:
    """Seconds for which a session that asks nothing of anybody stays claimed: until an agent that works counts as
    stalled, until a moment that is near, and not at all for one that is far: the row wakes somebody then."""
    if state.status == "erased" and state.turn is None:
        return 0.0  # what is kept of it is forgotten when it is let go of
    if (stalled := stalled_at(state, policy, heard_at)) is not None:
        return max(0.0, _seconds(now, stalled))
    due = state.due_at
    if due is not None and (left := _seconds(now, due)) <= linger:
        return max(0.0, left)
    return linger if state.turn is None or state.awaits_people else 0.0


def waited_out(state: SessionState, now: str, heard_at: str, chance: float) -> list[Input]:
    """The inputs to decide on when nothing was heard since `heard_at`; none: the session can be let go of."""
    if state.due_at is not None and state.due_at <= now:
        return [DeadlineElapsed(at=now)]
    if works(state):
        return [Silent(since=heard_at, at=now, chance=chance)]
    return []


def _seconds(earlier: str, later: str) -> float:
    return (parse(later) - parse(earlier)).total_seconds()
