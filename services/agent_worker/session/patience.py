"""How long a session in which nothing happens stays claimed, and the inputs that its silence is for the core."""

from __future__ import annotations

from datetime import timedelta

from services.agent_worker.ports import Head
from shared.moment import parse, rfc3339
from shared.session.commands import Close
from shared.session.inputs import DeadlineElapsed, Input, Silent
from shared.session.policy import Policy
from shared.session.state import CLOSED, SessionState
from shared.session.waiting import stalled_at

# What could not be done at the provider, and nobody waits for, is tried again between these seconds later.
SOONEST_AGAIN, LATEST_AGAIN = 30.0, 900.0


def until_deadline(state: SessionState, now: str) -> float | None:
    """Seconds to the next deadline of a turn; None: there is none."""
    deadline = state.deadline_at
    return None if deadline is None else max(0.0, _seconds(now, deadline))


def patience(
    state: SessionState, now: str, heard_at: str, *, linger: float, policy: Policy
) -> float:
    """Seconds for which a session that asks nothing of anybody stays claimed: until an agent that works counts as
    stalled, until a moment that is near, and not at all for one that is far: the row wakes somebody then. Never
    beyond a turn's deadline."""
    seconds = _patience(state, now, heard_at, linger=linger, policy=policy)
    deadline = until_deadline(state, now)
    return seconds if deadline is None else min(seconds, deadline)


def _patience(
    state: SessionState, now: str, heard_at: str, *, linger: float, policy: Policy
) -> float:
    if state.status == "erased" and state.turn is None:
        return 0.0  # what is kept of it is forgotten when it is let go of
    if (stalled := stalled_at(state, policy, heard_at)) is not None:
        return max(0.0, _seconds(now, stalled))
    due = state.due_at
    if due is not None and (left := _seconds(now, due)) <= linger:
        return max(0.0, left)
    return linger if state.turn is None or state.awaits_people else 0.0


def waited_out(
    state: SessionState, now: str, heard_at: str, chance: float, policy: Policy
) -> list[Input] | None:
    """The inputs to decide on when nothing was heard since `heard_at`; none of them: the session can be let go of;
    None: it is too soon to say."""
    moments = (state.due_at, state.deadline_at)
    if any(moment is not None and moment <= now for moment in moments):
        return [DeadlineElapsed(at=now)]
    if (stalled := stalled_at(state, policy, heard_at)) is not None:
        return [Silent(since=heard_at, at=now, chance=chance)] if stalled <= now else None
    return []


class Places:
    """So many sessions of one process at once may end what they left at the provider: a thousand that are due
    together shall neither storm it nor keep turns waiting."""

    def __init__(self, count: int) -> None:
        self._free = count

    def take(self) -> bool:
        """Take a place; False when there is none."""
        if not self._free:
            return False
        self._free -= 1
        return True

    def give_back(self) -> None:
        """Give one back."""
        self._free += 1


def only_ends(head: Head, now: str) -> bool:
    """Whether the session was taken up to end what it left at the provider and for nothing else, as far as its row
    tells."""
    if head.state.turn is not None or head.state.status in CLOSED:
        return False
    closes = all(isinstance(command, Close) for command in head.todo)
    return closes and (bool(head.todo) or rests(head, now))


def rests(head: Head, now: str) -> bool:
    """Whether the session was taken up for what is due at rest, as far as its row tells."""
    due = head.state.rest.due_at if head.state.rest else None
    return due is not None and due <= now and not head.todo


def try_again_at(state: SessionState, now: str, chance: float) -> str:
    """When to try what was put off once more: the later, the longer the session has waited for its end.
    Those that came together part."""
    since = state.retired.at if state.retired else state.rest.due_at if state.rest else None
    waited = _seconds(since, now) if since else 0.0
    wait = min(max(waited, SOONEST_AGAIN), LATEST_AGAIN) * (0.5 + chance)
    return rfc3339(parse(now) + timedelta(seconds=wait))


def _seconds(earlier: str, later: str) -> float:
    return (parse(later) - parse(earlier)).total_seconds()
