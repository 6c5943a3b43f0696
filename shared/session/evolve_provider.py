"""What the provider's events mean for a session's state.

They are read only as far as something depends on them; most types change nothing but the tail of known ids.
"""

from __future__ import annotations

from collections.abc import Callable

from msgspec import Raw
from msgspec.structs import replace

from shared.session import provider
from shared.session.events import Event, PendingAction
from shared.session.fingerprint import fingerprint_of
from shared.session.state import PROMPTS, SessionState

Evolver = Callable[[SessionState, Event], SessionState]


def turn_of(state: SessionState, kind: str, thread_id: str | None, raw: bytes | Raw) -> str | None:
    """The turn that an event of the provider belongs to: none between turns, and none for what a message set off
    that is nobody's here (another client's, or one that a process in the grave had on its way)."""
    progress = state.progress
    if progress is None or state.provider_session_id is None:
        return state.open_turn
    if kind == "user.message" and thread_id is None and not progress.prompted:
        ours = state.begun and progress.expects(fingerprint_of(raw))
        return state.open_turn if ours else None
    return None if progress.stray else state.open_turn


def _user_message(state: SessionState, event: Event) -> SessionState:
    if event.thread_id is not None:
        return state
    state = replace(state, prompts=(*state.prompts[-PROMPTS + 1 :], event.event_id))
    if state.progress is None or state.provider_session_id is None or state.gathering:
        return state  # nothing was sent yet: said by a provider session that was given up
    if provider.head(event.data).processed_at is None:
        return state
    if event.turn_id is None:
        return replace(state, progress=replace(state.progress, stray=True))
    # A wait for the next attempt ends: the message of the last one got in although its send seemed to fail.
    progress = replace(state.progress, prompted=True, stray=False, retry_at=None)
    return replace(state, progress=progress)


def _idle(state: SessionState, event: Event) -> SessionState:
    if state.progress is None or not state.progress.stray or event.thread_id is not None:
        return state
    return replace(state, progress=replace(state.progress, stray=False))


def _user_interrupt(state: SessionState, event: Event) -> SessionState:
    if state.progress is None or not state.progress.prompted:
        return state
    return replace(state, progress=replace(state.progress, interrupted=True))


def _agent_message(state: SessionState, event: Event) -> SessionState:
    state = _first_token(state, event)
    if state.turn is None or event.thread_id is not None or _strays(state, event):
        return state
    return replace(state, turn=replace(state.turn, reply=provider.text_of(event.data)))


def _first_token(state: SessionState, event: Event) -> SessionState:
    if state.turn is None or state.turn.first_token_at is not None or _strays(state, event):
        return state
    return replace(state, turn=replace(state.turn, first_token_at=event.at))


def _tool_use(state: SessionState, event: Event) -> SessionState:
    state = _first_token(state, event)
    if state.turn is None or _strays(state, event):
        return state
    state = replace(state, turn=replace(state.turn, tool_calls=state.turn.tool_calls + 1))
    use = provider.tool_use(event.data)
    if use.kind is None or any(p.tool_use_id == event.event_id for p in state.pending):
        return state
    action = PendingAction(
        tool_use_id=event.event_id, kind=use.kind, name=use.name, input=use.input, since=event.at
    )
    return replace(state, pending=(*state.pending, action))


def _strays(state: SessionState, event: Event) -> bool:
    """Whether it happened while a turn was open and is not part of it."""
    return event.turn_id is None and state.turn is not None


def _answered(state: SessionState, event: Event) -> SessionState:
    answered = provider.answered(event.data)
    if not any(action.tool_use_id == answered for action in state.pending):
        return state
    return replace(
        state, pending=tuple(action for action in state.pending if action.tool_use_id != answered)
    )


def _model_request_end(state: SessionState, event: Event) -> SessionState:
    usage = provider.model_usage(event.data)
    state = replace(state, usage=state.usage + usage)
    if state.turn is None or _strays(state, event):
        return state
    return replace(state, turn=replace(state.turn, usage=state.turn.usage + usage))


def _session_usage(state: SessionState, event: Event) -> SessionState:
    cents = provider.list_cost_cents(event.data)
    if cents is None:
        return state
    total = state.rotated_cents + cents
    if state.turn is None or state.progress is None:
        return replace(state, cost_cents=total)
    if _strays(state, event):
        base = state.progress.cost_base_cents + total - state.cost_cents
        progress = replace(state.progress, cost_base_cents=base)
        return replace(state, cost_cents=total, progress=progress)
    spent = (total - state.progress.cost_base_cents) / 100
    return replace(state, cost_cents=total, turn=replace(state.turn, cost_usd=spent))


def _status_running(state: SessionState, event: Event) -> SessionState:
    if state.turn is None or state.status != "requires_action" or state.pending:
        return state
    return replace(state, status="running", turn=replace(state.turn, status="running"))


def _session_error(state: SessionState, event: Event) -> SessionState:
    if state.progress is None or _strays(state, event):
        return state
    error = provider.error(event.data)
    return replace(
        state,
        progress=replace(
            state.progress,
            exhausted=state.progress.exhausted or error.retry_status == "exhausted",
            error_type=error.type,
            error_message=error.message,
        ),
    )


def _thread_created(state: SessionState, event: Event) -> SessionState:
    thread = provider.thread_of(event.data)
    if thread is None or thread in state.threads:
        return state
    return replace(state, threads={**state.threads, thread: ()})


PROVIDER: dict[str, Evolver] = {
    "user.message": _user_message,
    "user.interrupt": _user_interrupt,
    "user.tool_confirmation": _answered,
    "user.custom_tool_result": _answered,
    "user.tool_result": _answered,
    "agent.message": _agent_message,
    "agent.thinking": _first_token,
    "agent.tool_use": _tool_use,
    "agent.mcp_tool_use": _tool_use,
    "agent.custom_tool_use": _tool_use,
    "agent.tool_result": _answered,
    "agent.mcp_tool_result": _answered,
    "span.model_request_end": _model_request_end,
    "session.usage": _session_usage,
    "session.status_running": _status_running,
    "session.status_idle": _idle,
    "session.error": _session_error,
    "session.thread_created": _thread_created,
}
