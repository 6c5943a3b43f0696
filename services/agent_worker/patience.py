"""How long a session waits for news, and what it means that none came. Pure: times come in as texts."""

from __future__ import annotations

from shared.moment import parse
from shared.session.inputs import DeadlineElapsed, Input, Silent
from shared.session.state import SessionState


def patience(
    state: SessionState, now: str, heard_at: str, *, linger: float, silence: float
) -> float:
    """Seconds for which a session that asks nothing of anybody stays claimed: as long as an agent may be silent
    while it works, until a moment that is near, and not at all for one that is far: the row wakes somebody then."""
    if state.status == "erased" and state.turn is None:
        return 0.0  # what is kept of it is forgotten when it is let go of
    if _works(state):
        return max(0.0, silence - _seconds(heard_at, now))
    due = state.due_at
    if due is not None and (left := _seconds(now, due)) <= linger:
        return max(0.0, left)
    return linger if state.turn is None or state.awaits_people else 0.0


def waited_out(state: SessionState, now: str, heard_at: str, chance: float) -> list[Input]:
    """What it comes to that nothing was heard since `heard_at`; nothing: let go of the session."""
    if state.due_at is not None and state.due_at <= now:
        return [DeadlineElapsed(at=now)]
    if _works(state):
        return [Silent(since=heard_at, at=now, chance=chance)]
    return []


def _works(state: SessionState) -> bool:
    """Whether the provider should be saying something."""
    sent = state.turn is not None and state.turn.status in ("running", "requires_action")
    return sent and not state.awaits_people and state.due_at is None


def _seconds(earlier: str, later: str) -> float:
    """None below zero: the clock may have been set back between the two."""
    return max(0.0, (parse(later) - parse(earlier)).total_seconds())
