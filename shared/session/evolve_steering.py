"""What becomes of turns that steer the open one, among its riders (see `steering`)."""

from __future__ import annotations

from collections.abc import Iterable

from msgspec.structs import replace

from shared.session.events import Event, TurnStarted
from shared.session.state import Queued, SessionState
from shared.session.transitions import IllegalTransition, after


def with_riders(state: SessionState, riders: Iterable[Queued]) -> SessionState:
    """The state with these riders of the open turn."""
    assert state.progress is not None
    return replace(state, progress=replace(state.progress, riders=tuple(riders)))


def steering_started(state: SessionState, event: Event, data: TurnStarted) -> SessionState:
    """The next in line goes into the open turn. Raises IllegalTransition when it is another that starts."""
    first = state.queue[0] if state.queue else None
    if first is None or first.turn.turn_id != event.turn_id:
        raise IllegalTransition(f"turn.started at seq {event.seq} of a turn that is not next")
    status, started_at = after(first.turn.status, event.type), data.started_at
    turn = replace(first.turn, status=status, started_at=started_at, attempts=data.attempts)
    rider = replace(first, turn=turn, steer="sent")
    return with_riders(replace(state, queue=state.queue[1:]), (*state.riders, rider))


def steered(state: SessionState) -> SessionState:
    """The agent has the message that was on its way into the open turn."""
    sent = (replace(one, steer="taken") if one.steer == "sent" else one for one in state.riders)
    return with_riders(state, sent)


def not_taken(state: SessionState) -> tuple[Queued, ...]:
    """Those whose message was not seen to be taken up, as turns like others: they are next in line."""
    return tuple(replace(one, steer="") for one in state.riders if one.steer == "sent")


def taken_up(state: SessionState) -> tuple[Queued, ...]:
    """All other riders."""
    return tuple(one for one in state.riders if one.steer != "sent")


def told_anew(riders: Iterable[Queued]) -> tuple[Queued, ...]:
    """The riders of a turn that the agent is told anew: the content of those that steered it goes along. A message
    that the agent was not seen to have it may come to yet."""
    return tuple(replace(one, steer="") if one.steer == "taken" else one for one in riders)
