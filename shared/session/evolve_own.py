"""What Turnstile's own events (`session.*`, `turn.*`) mean for a session's state."""

from __future__ import annotations

from collections.abc import Callable
from itertools import takewhile

import msgspec
from msgspec import UNSET
from msgspec.structs import replace

from shared.session.caps import CAP_RESERVED
from shared.session.events import (
    PREWARM_MAX,
    RESUMABLE,
    TURN_ENDS,
    Event,
    SessionCharged,
    SessionClosed,
    SessionIdled,
    SessionOpened,
    SessionParked,
    SessionPrewarmed,
    SessionPrewarmFailed,
    SessionRotated,
    SessionUnparked,
    Turn,
    TurnAccepted,
    TurnOverdue,
    TurnRetrying,
    TurnStalled,
    TurnStarted,
)
from shared.session.evolve_asking import (
    budget_raised,
    connection_made,
    open_turn,
    requires_action,
    unanswered,
    working,
)
from shared.session.evolve_steering import (
    not_taken,
    steering_started,
    taken_up,
    told_anew,
    with_riders,
)
from shared.session.fingerprint import fingerprint
from shared.session.ledger import CENT, Ledger
from shared.session.state import (
    FAILED,
    GIVEN_UP,
    OPENING,
    Length,
    Progress,
    Queued,
    Rest,
    Retired,
    SessionState,
)
from shared.session.transitions import after
from shared.trace_context import joined

Evolver = Callable[[SessionState, Event], SessionState]


def _opened(state: SessionState, event: Event) -> SessionState:
    data = msgspec.json.decode(event.data, type=SessionOpened)
    return replace(
        state,
        user_id=data.user_id,
        agent=data.agent,
        title=data.title,
        metadata=data.metadata,
        budget_usd=data.budget_usd,
        vault_ids=data.vault_ids,
        resources=data.resources or (),
        mode=data.mode,
        status="idle",
        opened_at=event.at,
        prewarm=OPENING if data.prewarm is True else "",
    )


def _prewarmed(state: SessionState, event: Event) -> SessionState:
    data = msgspec.json.decode(event.data, type=SessionPrewarmed)
    rest = None
    if data.archive_at is not UNSET and state.turn is None:
        rest = Rest(last_turn_id="", since=event.at, archive_at=data.archive_at)
    return replace(
        state,
        prewarm="",
        ledger=_ledger(state),
        provider_session_id=data.provider_session_id,
        bound_agent=data.agent,
        bound_version=data.agent_version or 0,
        model=data.model,
        rest=rest,
    )


def _prewarm_failed(state: SessionState, event: Event) -> SessionState:
    """Where the provider was asked it may have made one all the same: whoever opens next looks for it."""
    reason = msgspec.json.decode(event.data, type=SessionPrewarmFailed).reason
    return replace(state, prewarm="" if reason == PREWARM_MAX else FAILED)


def _rotated(state: SessionState, event: Event) -> SessionState:
    lost = msgspec.json.decode(event.data, type=SessionRotated).provider_session_id
    return replace(
        state,
        provider_session_id=None,
        rotated_from=_spoken_in(state),
        given_up=(*state.given_up[-GIVEN_UP + 1 :], lost),
        rotated_cents=state.cost_cents,
        # It told what it cost to the nearest cent.
        unsure_cents=state.unsure_cents + (state.cost_cents > state.rotated_cents),
        ledger=state.ledger.rotated() if state.ledger else None,
        at_budget=False,
        rest=None,
        retired=None,
        queue=(*not_taken(state), *state.queue),
        length=Length(),
        prompts=(),
        tail=(),
        threads={},
        pending=(),
        calls=(),
        answered=(),
        progress=replace(
            state.progress,
            nudged=False,
            told=False,
            stalls=0,
            reconnected=frozenset(),
            riders=told_anew(taken_up(state)),
        )
        if state.progress
        else None,
    )


def _spoken_in(state: SessionState) -> str | None:
    """Where the conversation is: not in a provider session that was lost before it heard anything."""
    return state.provider_session_id if _has_heard(state) else state.rotated_from


def _has_heard(state: SessionState) -> bool:
    """Whether the provider session that there is got a message."""
    return state.provider_session_id is not None and bool(state.prompts)


def _nothing(state: SessionState, event: Event) -> SessionState:
    return state


def _idled(state: SessionState, event: Event) -> SessionState:
    data = msgspec.json.decode(event.data, type=SessionIdled)
    rest = Rest(
        last_turn_id=data.last_turn_id,
        since=data.idle_since or event.at,
        idle_at=data.idle_at or None,
        archive_at=data.archive_at or None,
    )
    retired = Retired(reason=data.retires, at=event.at) if data.retires else state.retired
    return replace(state, status="idle", rest=rest if rest.due_at else None, retired=retired)


def _archived(state: SessionState, event: Event) -> SessionState:
    reason = msgspec.json.decode(event.data, type=SessionClosed).reason
    if reason not in RESUMABLE:
        return replace(state, status="archived", queue=(), rest=None)
    retired = state.retired or Retired(reason=reason, at=event.at)
    return replace(state, status="dormant", rest=None, retired=retired)


def _erased(state: SessionState, event: Event) -> SessionState:
    return replace(state, status="erased", queue=(), rest=None)


def _accepted(state: SessionState, event: Event) -> SessionState:
    data = msgspec.json.decode(event.data, type=TurnAccepted)
    turn = Turn(
        turn_id=data.turn_id,
        user_id=data.user_id,
        status="accepted",
        submitted_at=data.submitted_at,
        deadline_at=data.deadline_at,
        resources=data.resources,
    )
    queued = Queued(
        turn=turn,
        input_id=data.input_id,
        traceparent=joined(data.traceparent, data.tracestate or ""),
        coalesce=data.on_busy == "coalesce",
        prompt=fingerprint(data.content),
        steer="wanted" if data.on_busy == "steer" else "",
    )
    if state.parks(data.turn_id):  # redriven: it goes where it would have gone
        same = (queued if q.turn.turn_id == data.turn_id else q for q in state.queue)
        return _go_on(replace(state, queue=tuple(same)))
    if data.behind is not UNSET:
        return replace(state, queue=(*state.queue, queued))
    if state.turn is None and not state.queue:
        return _take_up(state, queued, gathers_until=data.gathers_until)
    if queued.coalesce and state.gathering:
        return with_riders(state, (*state.riders, queued))
    # Only events from before `behind` was recorded come here.
    if data.on_busy == "interrupt" and state.turn is not None:
        return replace(state, queue=(queued, *state.queue))
    return replace(state, queue=(*state.queue, queued))


def _take_up(
    state: SessionState, queued: Queued, *, gathers_until: str | None = None
) -> SessionState:
    """Open a turn; one that may be coalesced takes those along that wait right behind it and may be too."""
    riders = tuple(takewhile(lambda q: q.coalesce, state.queue)) if queued.coalesce else ()
    return replace(
        state,
        turn=queued.turn,
        queue=state.queue[len(riders) :],
        progress=Progress(
            input_id=queued.input_id,
            traceparent=queued.traceparent,
            cost_base_cents=state.cost_cents,
            riders=riders,
            gathers_until=gathers_until,
            prompt=queued.prompt,
            failures=queued.turn.attempts,
            sent_before=queued.turn.attempts > 0,
        ),
        status="running",
        pending=(),
        calls=(),
        rest=None,
    )


def _started(state: SessionState, event: Event) -> SessionState:
    data = msgspec.json.decode(event.data, type=TurnStarted)
    if any(rider.turn.turn_id == event.turn_id for rider in state.riders):
        return _rider_started(state, event, data)
    if state.turn is not None and event.turn_id != state.open_turn:
        return steering_started(state, event, data)
    turn, progress = open_turn(state, event)
    return replace(
        state,
        ledger=_ledger(state) if data.ledger is True else state.ledger,
        provider_session_id=data.provider_session_id,
        bound_agent=data.agent,
        bound_version=data.agent_version or 0,
        model=data.model,
        prewarm="",
        status=working(state),
        turn=replace(
            turn,
            status="running",
            started_at=data.started_at,
            first_token_at=data.first_token_at,
            attempts=data.attempts,
        ),
        progress=replace(
            progress,
            retry_at=None,
            gathers_until=None,
            prompted=False,
            exhausted=False,
            finished=False,
            told=progress.nudged,
            unconnected=(),
        ),
    )


def _ledger(state: SessionState) -> Ledger:
    """The session's ledger, a new one that goes on with what the session has cost by then where there is none."""
    if state.ledger is not None:
        return state.ledger
    total = state.cost_cents * CENT
    if state.provider_session_id is None:
        return Ledger(micro_usd=total, brought_forward=total)
    return Ledger(
        micro_usd=total,
        brought_forward=total,
        of_provider=total - state.rotated_cents * CENT,
        tokens=state.usage,
        active_ms=None,
    )


def _charged(state: SessionState, event: Event) -> SessionState:
    lines = msgspec.json.decode(event.data, type=SessionCharged).lines
    settled = {line.source for line in lines if line.kind == "request"}
    state = replace(
        state,
        ledger=(state.ledger or Ledger()).after(lines),
        unsettled=tuple(spent for spent in state.unsettled if spent.source not in settled),
    )
    if state.turn is None or event.turn_id != state.open_turn:
        return state
    micro_usd = round(state.turn.cost_usd * 1e6) + sum(line.micro_usd for line in lines)
    return replace(state, turn=replace(state.turn, cost_usd=micro_usd / 1e6))


def _rider_started(state: SessionState, event: Event, data: TurnStarted) -> SessionState:
    riders = (
        replace(
            rider,
            turn=replace(
                rider.turn, status="running", started_at=data.started_at, attempts=data.attempts
            ),
        )
        if rider.turn.turn_id == event.turn_id
        else rider
        for rider in state.riders
    )
    return with_riders(state, tuple(riders))


def _reserved(state: SessionState, event: Event) -> SessionState:
    _, progress = open_turn(state, event)
    return replace(state, progress=replace(progress, reserved=True, held_since=None))


def _held(state: SessionState, event: Event, retry_at: str) -> SessionState:
    """No attempt failed: none was made."""
    turn, progress = open_turn(state, event)
    since = progress.held_since or event.at
    return replace(
        state,
        status=working(state),
        turn=replace(turn, status=after(turn.status, event.type)),
        progress=replace(progress, retry_at=retry_at, gathers_until=None, held_since=since),
    )


def _retrying(state: SessionState, event: Event) -> SessionState:
    data = msgspec.json.decode(event.data, type=TurnRetrying)
    if data.reason == CAP_RESERVED:
        return _held(state, event, data.retry_at)
    turn, progress = open_turn(state, event)
    return replace(
        state,
        status=working(state),
        turn=replace(turn, status=data.status, first_token_at=data.first_token_at),
        pending=(),
        calls=(),
        progress=replace(
            progress,
            failures=progress.failures + 1,
            failing_since=progress.failing_since or event.at,
            retry_at=data.retry_at,
            gathers_until=None,
            answer_by=None,
            prompted=False,
            interrupted=False,
            exhausted=False,
            riders=told_anew(state.riders),
            unconnected=(),
        ),
    )


def _stalled(state: SessionState, event: Event) -> SessionState:
    data = msgspec.json.decode(event.data, type=TurnStalled)
    turn, progress = open_turn(state, event)
    nudged = data.action == "interrupt"
    stalls = progress.stalls + 1
    return replace(
        state,
        turn=replace(turn, first_token_at=data.first_token_at),
        progress=replace(progress, stalls=stalls, nudged=nudged, told=False),
    )


def _overdue(state: SessionState, event: Event) -> SessionState:
    data = msgspec.json.decode(event.data, type=TurnOverdue)
    turn, progress = open_turn(state, event)
    return replace(
        state,
        turn=replace(turn, first_token_at=data.first_token_at),
        progress=replace(progress, overdue=True),
    )


def _ended(state: SessionState, event: Event) -> SessionState:
    if (
        state.at_budget and event.type == "turn.failed"
    ):  # whether it still is, the next message tells
        state = replace(state, at_budget=False)
    if event.turn_id != state.open_turn:  # one that rode along, or was refused while it waited
        left = replace(
            state, queue=tuple(q for q in state.queue if q.turn.turn_id != event.turn_id)
        )
        riders = tuple(q for q in state.riders if q.turn.turn_id != event.turn_id)
        return with_riders(left, riders) if riders != state.riders else left
    status = state.status if state.status in ("archived", "erased") else "idle"
    ended = replace(
        state,
        turn=None,
        progress=None,
        queue=(*not_taken(state), *state.queue),
        pending=(),
        calls=(),
        answered=(),
        # What was said before is still to be told where no provider session has heard of it yet.
        rotated_from=None if _has_heard(state) else state.rotated_from,
        status=status,
        length=_one_more(state),
    )
    return _go_on(ended)


def _one_more(state: SessionState) -> Length:
    """The length after a turn, of a provider session that there is."""
    if state.provider_session_id is None:
        return state.length
    return replace(state.length, turns=state.length.turns + 1)


def _go_on(state: SessionState) -> SessionState:
    """With nothing open, open the turn that is next, unless it is a dead letter."""
    if state.turn is not None or not state.queue or state.queue[0].parked:
        return state
    return _take_up(replace(state, queue=state.queue[1:]), state.queue[0])


def _parked(state: SessionState, event: Event) -> SessionState:
    data = msgspec.json.decode(event.data, type=SessionParked)
    turn = Turn(
        turn_id=data.turn_id, user_id=event.user_id, status="accepted", submitted_at=event.at
    )
    return replace(state, queue=(*state.queue, Queued(turn=turn, input_id="", parked=True)))


def _unparked(state: SessionState, event: Event) -> SessionState:
    data = msgspec.json.decode(event.data, type=SessionUnparked)
    left = (q for q in state.queue if not (q.parked and q.turn.turn_id == data.turn_id))
    return _go_on(replace(state, queue=tuple(left)))


OWN: dict[str, Evolver] = {
    "session.opened": _opened,
    "session.prewarmed": _prewarmed,
    "session.prewarm_failed": _prewarm_failed,
    "session.rotated": _rotated,
    "session.idled": _idled,
    "session.archived": _archived,
    "session.erased": _erased,
    "session.parked": _parked,
    "session.unparked": _unparked,
    "session.answer_refused": _nothing,
    "session.charged": _charged,
    "session.budget_raised": budget_raised,
    "session.connection_made": connection_made,
    "turn.accepted": _accepted,
    "turn.reserved": _reserved,
    "turn.started": _started,
    "turn.retrying": _retrying,
    "turn.requires_action": requires_action,
    "turn.unanswered": unanswered,
    "turn.stalled": _stalled,
    "turn.overdue": _overdue,
    **dict.fromkeys(TURN_ENDS, _ended),
}
