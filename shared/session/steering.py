"""`on_busy: steer`: a turn whose message goes into the turn that runs; the agent reads it with its next request.

One message is on its way at a time, and only while it can be told from every other that may come: so whether it is
there can always be looked up. It is journalled, sent and looked for as any message is. What the agent says and what
that costs stays the running turn's. The turn that steers ends with it, once the agent was seen to have the message;
else it goes on when that one has ended, as the next turn, which looks for its message first.
"""

from __future__ import annotations

from typing import Any

from msgspec import UNSET
from msgspec.structs import replace

from shared.session.commands import Steer
from shared.session.decision import Draft, fields
from shared.session.events import Turn, TurnStarted
from shared.session.state import Queued, SessionState
from shared.session.transitions import after
from shared.session.turn_ends import is_over


def steer(draft: Draft, *, at: str) -> None:
    """Send the message of the turn that is next in line into the open one, if it is to go there and may now. Under
    a cap it waits: what it costs is reserved when it begins by itself."""
    state = draft.state
    if not state.queue or draft.policy.capped or not _may(state, state.queue[0], at):
        return
    next_one, lead = state.queue[0], state.open_turn
    assert lead is not None
    turn = replace(
        next_one.turn,
        status=after(next_one.turn.status, "turn.started"),
        started_at=max(at, next_one.turn.submitted_at),
        attempts=next_one.turn.attempts + 1,
    )
    where: dict[str, Any] = {
        "provider_session_id": state.provider_session_id,
        "agent": state.bound_agent or "",
        "agent_version": state.bound_version or UNSET,
        "model": state.model or "",
    }
    data = TurnStarted(**fields(turn), **where, joined=lead)
    draft.own("turn.started", data, at=at, turn_id=turn.turn_id, traceparent=next_one.traceparent)
    draft.ask(Steer(turn_id=turn.turn_id, input_id=next_one.input_id, joins=lead))


def _may(state: SessionState, next_one: Queued, at: str) -> bool:
    turn, progress = state.turn, state.progress
    if turn is None or progress is None or next_one.steer != "wanted" or not state.takes_steering:
        return False
    if progress.steering is not None or is_over(next_one.turn, at):
        return False
    known = {"", progress.prompt, *(rider.prompt for rider in state.riders)}
    return next_one.prompt not in known and _has_time(next_one.turn, turn)


def _has_time(turn: Turn, lead: Turn) -> bool:
    """Whether the turn's deadline, if it has one, is kept by that of the turn it joins."""
    if turn.deadline_at is UNSET:
        return True
    return lead.deadline_at is not UNSET and lead.deadline_at <= turn.deadline_at
