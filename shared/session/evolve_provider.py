"""What the provider's events mean for a session's state.

They are read only as far as something depends on them; most types change nothing but the tail of known ids.
"""

from __future__ import annotations

from collections.abc import Callable

from msgspec import Raw
from msgspec.structs import replace

from shared.session import provider
from shared.session.events import Event, PendingAction, Usage
from shared.session.evolve_steering import steered
from shared.session.fingerprint import fingerprint_of
from shared.session.ledger import Spent, within_bounds
from shared.session.state import (
    ANSWERED,
    CALLS,
    PROMPTS,
    Call,
    Progress,
    SessionState,
    Unconnected,
)

# More than an outcome can have: a turn that is tried again may have another one.
EVALUATIONS = 40
# As many MCP servers as an agent may have.
SERVERS = 20
Evolver = Callable[[SessionState, Event], SessionState]


def turn_of(state: SessionState, kind: str, thread_id: str | None, raw: bytes | Raw) -> str | None:
    """The turn that an event of the provider belongs to: none between turns, and none for what a message set off
    that is nobody's here (another client's, or one that a process which died had on its way). Of a turn that steers
    the open one it is the message alone."""
    progress = state.progress
    if progress is None or state.provider_session_id is None:
        return state.open_turn
    steering = progress.steering if kind in provider.TELLING and thread_id is None else None
    if steering is not None and fingerprint_of(raw) == steering.prompt:
        return steering.turn.turn_id
    if kind in provider.TELLING and thread_id is None and not progress.prompted:
        ours = state.begun and progress.expects(fingerprint_of(raw))
        return state.open_turn if ours else None
    return None if progress.stray else state.open_turn


def _user_message(state: SessionState, event: Event) -> SessionState:
    if event.thread_id is not None or state.provider_session_id is None:
        return state  # without one it was said by a provider session that was given up
    state = replace(state, prompts=(*state.prompts[-PROMPTS + 1 :], event.event_id))
    if state.progress is None:  # it came late: what was in front of it is known there
        return replace(state, rotated_from=None)
    if state.gathering:
        return state  # nothing was sent yet
    if provider.head(event.data).processed_at is None:
        return state
    if state.steering is not None and event.turn_id == state.steering.turn.turn_id:
        return steered(state)
    if event.turn_id is None:
        return replace(state, progress=replace(state.progress, stray=True))
    # A wait for the next attempt ends: the message of the last one got in although its send seemed to fail.
    progress = replace(state.progress, prompted=True, stray=False, retry_at=None)
    return replace(state, progress=progress)


def _idle(state: SessionState, event: Event) -> SessionState:
    if event.thread_id is not None:
        return state
    if provider.stop_reason(event.data).type == "budget_reached":
        state = replace(state, at_budget=True)
    if state.progress is None:
        return state
    if state.progress.stray:
        return replace(state, progress=replace(state.progress, stray=False))
    return _named(state, event) if state.begun else state


def _named(state: SessionState, event: Event) -> SessionState:
    """What an idle waits for is pending, whatever its event said and though it has not come yet: but for what was
    answered, which may be named once more."""
    reason = provider.stop_reason(event.data)
    if reason.type != "requires_action":
        return state
    calls = {call.tool_use_id: call for call in state.calls}
    waiting = [action.tool_use_id for action in state.pending]
    named = [id for id in dict.fromkeys(reason.event_ids) if id not in (*waiting, *state.answered)]
    if not named:
        return state
    unseen = (Call(tool_use_id=id, kind="confirmation", name="", since=event.at) for id in named)
    pending = (_action(calls.get(call.tool_use_id, call)) for call in unseen)
    left = (call for call in state.calls if call.tool_use_id not in named)
    return replace(state, pending=(*state.pending, *pending), calls=tuple(left))


def _action(call: Call) -> PendingAction:
    return PendingAction(
        tool_use_id=call.tool_use_id,
        kind=call.kind,
        name=call.name,
        input=call.input,
        since=call.since,
    )


def _user_interrupt(state: SessionState, event: Event) -> SessionState:
    if state.progress is None or not state.progress.prompted:
        return state
    return replace(state, progress=replace(state.progress, interrupted=True))


def _agent_message(state: SessionState, event: Event) -> SessionState:
    state = _first_output(state, event)
    if state.turn is None or event.thread_id is not None or _of_no_turn(state, event):
        return state
    return replace(state, turn=replace(state.turn, reply=provider.text_of(event.data)))


def _first_output(state: SessionState, event: Event) -> SessionState:
    """The first token came no later; when it did, a `turn.*` event says where it was seen."""
    turn = state.turn
    if turn is None or turn.first_output_at is not None or _of_no_turn(state, event):
        return state
    token = turn.first_token_at or event.at
    return replace(state, turn=replace(turn, first_token_at=token, first_output_at=event.at))


def _tool_use(state: SessionState, event: Event) -> SessionState:
    state = _first_output(state, event)
    if state.turn is None or _of_no_turn(state, event):
        return state
    state = replace(state, turn=replace(state.turn, tool_calls=state.turn.tool_calls + 1))
    return _called(state, event, provider.tool_use(event.data))


def unfamiliar(state: SessionState, event: Event) -> SessionState:
    """An event of a newer API. One of the agent's may be a call, and one that an idle named is."""
    named = any(action.tool_use_id == event.event_id for action in state.pending)
    if state.turn is None or _of_no_turn(state, event):
        return state
    if not (named or event.type.startswith("agent.")):
        return state
    return _called(state, event, provider.unfamiliar(event.data))


def _called(state: SessionState, event: Event, use: provider.ToolUse) -> SessionState:
    """The call waits when it says so, or was named before it came: then it is announced anew; else it runs."""
    if use.asks == "denied":
        return state
    call = Call(
        tool_use_id=event.event_id,
        kind=use.kind,
        name=use.name,
        since=event.at,
        input=provider.NOTHING if use.asks == "no" else use.input,
        thread_id=event.thread_id or provider.thread_of(event.data),
    )
    others = tuple(p for p in state.pending if p.tool_use_id != event.event_id)
    if others == state.pending and use.asks != "yes":
        return replace(state, calls=(*state.calls[-CALLS + 1 :], call))
    assert state.progress is not None
    announced = state.progress.announced - {event.event_id}
    progress = replace(state.progress, announced=announced)
    return replace(state, pending=(*others, _action(call)), progress=progress)


def _of_no_turn(state: SessionState, event: Event) -> bool:
    """Whether it happened while a turn was open and is not part of it."""
    return event.turn_id is None and state.turn is not None


def _answered(state: SessionState, event: Event) -> SessionState:
    answered = provider.answered(event.data)
    waited = [action for action in state.pending if action.tool_use_id == answered]
    calls = tuple(call for call in state.calls if call.tool_use_id != answered)
    if answered is None or not (waited or calls != state.calls):
        return state
    if event.type == "user.tool_confirmation":  # it runs from now on
        calls = (*calls, *(_confirmed(action, event) for action in waited))
    known = (id for id in state.answered if id != answered)
    return replace(
        state,
        pending=tuple(action for action in state.pending if action not in waited),
        calls=calls[-CALLS:],
        answered=(*known, answered)[-ANSWERED:],
    )


def _confirmed(action: PendingAction, event: Event) -> Call:
    return Call(
        tool_use_id=action.tool_use_id,
        kind="custom_tool" if action.kind == "custom_tool" else "confirmation",
        name=action.name,
        since=event.at,
        thread_id=provider.thread_of(event.data),
    )


def _model_request_start(state: SessionState, event: Event) -> SessionState:
    """A thread that asks its model has the results of all its calls, seen or not. The primary one goes on without
    the servers that failed."""
    if event.thread_id is None and state.progress is not None and state.progress.unconnected:
        state = replace(state, progress=replace(state.progress, unconnected=()))
    left = tuple(call for call in state.calls if call.thread_id != event.thread_id)
    return replace(state, calls=left) if left != state.calls else state


def _unchanged(state: SessionState, event: Event) -> SessionState:
    return state


def _model_request_end(state: SessionState, event: Event) -> SessionState:
    usage = provider.model_usage(event.data)
    state = replace(state, usage=state.usage + usage)
    if state.ledger is not None:
        state = replace(state, unsettled=(*state.unsettled, _spent(state, event, usage)))
    if state.turn is None or _of_no_turn(state, event):
        return state
    return replace(state, turn=replace(state.turn, usage=state.turn.usage + usage))


def _evaluated(state: SessionState, event: Event) -> SessionState:
    if state.turn is None or _of_no_turn(state, event):
        return state
    known = state.turn.evaluations or ()
    every = (*known, provider.evaluation(event.data, event.at))[-EVALUATIONS:]
    return replace(state, turn=replace(state.turn, evaluations=every))


def _spent(state: SessionState, event: Event, usage: Usage) -> Spent:
    return Spent(
        source=event.event_id,
        day=event.at[:10],
        model=event.model or state.model or "",
        model_told=event.model is not None,
        usage=within_bounds(usage),
        turn_id=event.turn_id,
        thread_id=event.thread_id,
    )


def _session_usage(state: SessionState, event: Event) -> SessionState:
    account = provider.account(event.data)
    if account.cents is None:
        return state
    total = state.rotated_cents + account.cents
    if state.ledger is not None:  # an account that goes back takes nothing away
        if event.thread_id is not None:
            return state
        ledger = replace(state.ledger, accounted=account.tokens)
        return replace(state, cost_cents=max(total, state.cost_cents), ledger=ledger)
    if state.turn is None or state.progress is None:
        return replace(state, cost_cents=total)
    if _of_no_turn(state, event):
        base = state.progress.cost_base_cents + total - state.cost_cents
        progress = replace(state.progress, cost_base_cents=base)
        return replace(state, cost_cents=total, progress=progress)
    spent = (total - state.progress.cost_base_cents) / 100
    return replace(state, cost_cents=total, turn=replace(state.turn, cost_usd=spent))


def _thread_idle(state: SessionState, event: Event) -> SessionState:
    """A thread that is no child is the primary one, which names itself. A session at its budget says so even when
    the agent had come to its end."""
    child = event.thread_id is not None or provider.thread_of(event.data) in state.threads
    if child or state.progress is None or _of_no_turn(state, event):
        return state
    finished = provider.stop_reason(event.data).type == "end_turn"
    return replace(state, progress=replace(state.progress, finished=finished))


def _updated(state: SessionState, event: Event) -> SessionState:
    """A budget was changed by whomever: whether it is used up is said anew."""
    return replace(state, at_budget=False) if provider.tells_budget(event.data) else state


def _status_running(state: SessionState, event: Event) -> SessionState:
    if event.thread_id is None and state.at_budget:  # it goes on: the budget was raised
        left = tuple(action for action in state.pending if action.kind != "budget")
        state = replace(state, at_budget=False, pending=left)
    if state.progress is not None and state.progress.finished and not _of_no_turn(state, event):
        state = replace(state, progress=replace(state.progress, finished=False))
    if state.turn is None or state.status != "requires_action" or state.pending:
        return state
    return replace(state, status="running", turn=replace(state.turn, status="running"))


def _session_error(state: SessionState, event: Event) -> SessionState:
    if state.progress is None or _of_no_turn(state, event):
        return state
    error = provider.error(event.data)
    progress = replace(state.progress, error_type=error.type, error_message=error.message)
    if error.server:
        progress = replace(progress, unconnected=_unconnected(progress, event, error))
    elif error.retry_status != "retrying":
        exhausted = progress.exhausted or error.retry_status == "exhausted"
        progress = replace(progress, exhausted=exhausted, unconnected=())
    return replace(state, progress=progress)


def _unconnected(
    progress: Progress, event: Event, error: provider.SessionError
) -> tuple[Unconnected, ...]:
    """The servers that failed. The agent may go on without them, whatever the error says: the idle tells."""
    others = tuple(one for one in progress.unconnected if one.server != error.server)
    if error.retry_status == "retrying":
        return progress.unconnected
    failed = Unconnected(server=error.server, error_id=event.event_id, error=error.type)
    return (*others, failed)[-SERVERS:]


def _compacted(state: SessionState, event: Event) -> SessionState:
    if event.thread_id is not None:
        return state
    return replace(state, length=replace(state.length, compactions=state.length.compactions + 1))


def _thread_created(state: SessionState, event: Event) -> SessionState:
    thread = provider.thread_of(event.data)
    if thread is None or thread in state.threads:
        return state
    return replace(state, threads={**state.threads, thread: ()})


PROVIDER: dict[str, Evolver] = {
    "user.message": _user_message,
    "user.define_outcome": _user_message,
    "user.interrupt": _user_interrupt,
    "user.tool_confirmation": _answered,
    "user.custom_tool_result": _answered,
    "user.tool_result": _answered,
    "agent.message": _agent_message,
    "agent.thinking": _first_output,
    "agent.tool_use": _tool_use,
    "agent.mcp_tool_use": _tool_use,
    "agent.custom_tool_use": _tool_use,
    "agent.tool_result": _answered,
    "agent.mcp_tool_result": _answered,
    "agent.thread_message_sent": _unchanged,
    "agent.thread_message_received": _unchanged,
    "agent.thread_context_compacted": _compacted,
    "span.model_request_start": _model_request_start,
    "span.model_request_end": _model_request_end,
    "span.outcome_evaluation_end": _evaluated,
    "session.usage": _session_usage,
    "session.status_running": _status_running,
    "session.thread_status_idle": _thread_idle,
    "session.updated": _updated,
    "session.status_idle": _idle,
    "session.error": _session_error,
    "session.thread_created": _thread_created,
}
