"""What a turn that waits for people means for a session's state: for answers, for its budget, for a connection."""

from __future__ import annotations

import msgspec
from msgspec.structs import replace

from shared.session.events import (
    Event,
    PendingAction,
    SessionBudgetRaised,
    SessionConnectionMade,
    Turn,
    TurnRequiresAction,
    TurnUnanswered,
)
from shared.session.evolve_steering import told_anew
from shared.session.state import Progress, SessionState, SessionStatus
from shared.session.transitions import IllegalTransition


def open_turn(state: SessionState, event: Event) -> tuple[Turn, Progress]:
    """The open turn. Raises IllegalTransition when there is none: such a log was not recorded by us."""
    if state.turn is None or state.progress is None:
        raise IllegalTransition(f"{event.type} at seq {event.seq}, but no turn is open")
    return state.turn, state.progress


def working(state: SessionState) -> SessionStatus:
    """The session's status while its turn runs: `running`, unless it is closed."""
    return state.status if state.status in ("archived", "erased") else "running"


def requires_action(state: SessionState, event: Event) -> SessionState:
    """What the turn waits for that is no call of the agent's is first told here."""
    turn, progress = open_turn(state, event)
    data = msgspec.json.decode(event.data, type=TurnRequiresAction)
    if budget := tuple(action for action in data.pending_actions if action.kind == "budget"):
        calls = tuple(action for action in state.pending if action.kind != "budget")
        state = replace(state, at_budget=True, pending=(*calls, *budget))
        progress = replace(progress, retry_at=None, gathers_until=None)
    if connections := tuple(a for a in data.pending_actions if a.kind == "connection"):
        state, progress = _unconnected(state, progress, connections)
    announced = frozenset(action.tool_use_id for action in state.pending)
    return replace(
        state,
        status=state.status if state.status in ("archived", "erased") else "requires_action",
        turn=replace(turn, status="requires_action", first_token_at=data.first_token_at),
        progress=replace(progress, announced=announced, answer_by=data.answer_by),
    )


def _unconnected(
    state: SessionState, progress: Progress, connections: tuple[PendingAction, ...]
) -> tuple[SessionState, Progress]:
    """The attempt came to nothing, and with it the calls that it made. Patience with failures begins anew."""
    progress = replace(
        progress,
        failures=progress.failures + 1,
        failing_since=None,
        retry_at=None,
        gathers_until=None,
        prompted=False,
        interrupted=False,
        exhausted=False,
        unconnected=(),
        riders=told_anew(state.riders),
    )
    return replace(state, pending=connections, calls=()), progress


def budget_raised(state: SessionState, event: Event) -> SessionState:
    data = msgspec.json.decode(event.data, type=SessionBudgetRaised)
    left = tuple(action for action in state.pending if action.tool_use_id != data.resumes)
    state = replace(state, budget_usd=data.budget_usd, pending=left)
    return replace(state, at_budget=state.budget_pause is not None)


def connection_made(state: SessionState, event: Event) -> SessionState:
    """One server less to wait for."""
    data = msgspec.json.decode(event.data, type=SessionConnectionMade)
    left = tuple(action for action in state.pending if action.tool_use_id != data.tool_use_id)
    state = replace(state, pending=left)
    if state.progress is None:
        return state
    known = state.progress.reconnected | {data.server}
    return replace(state, progress=replace(state.progress, reconnected=known))


def unanswered(state: SessionState, event: Event) -> SessionState:
    turn, progress = open_turn(state, event)
    data = msgspec.json.decode(event.data, type=TurnUnanswered)
    return replace(
        state,
        turn=replace(turn, first_token_at=data.first_token_at),
        progress=replace(progress, answer_by=None),
    )
