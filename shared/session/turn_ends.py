"""The attempts of a turn: how one begins, what ends the turn or makes it wait for people, what is tried again."""

from __future__ import annotations

from collections.abc import Callable
from datetime import timedelta
from typing import Any

from msgspec import UNSET
from msgspec.structs import replace

from shared.moment import parse, rfc3339
from shared.session import budget, connection, provider
from shared.session.commands import Close, DeadLetter, Interrupt, Open, Send
from shared.session.decision import Draft, fields
from shared.session.events import (
    Event,
    SessionRotated,
    Turn,
    TurnError,
    TurnOverdue,
    TurnRequiresAction,
    TurnRetrying,
    TurnStarted,
)
from shared.session.inputs import Bound, Seen
from shared.session.policy import Barred, Policy
from shared.session.rest import come_to_rest
from shared.session.state import CLOSED, GIVEN_UP, OPENING, Progress

# Why the input of a turn is a dead letter that was tried until nothing more could be hoped for.
TURN_FAILED = "turn_failed"
# Why a turn with a deadline was interrupted, or not sent.
PAST_DEADLINE = TurnError(
    type="deadline_exceeded",
    message="the turn had not ended deadline_seconds after it was accepted",
)


def is_over(turn: Turn, at: str) -> bool:
    """Whether the turn's deadline has come."""
    return turn.deadline_at is not UNSET and turn.deadline_at <= at


def begin(draft: Draft, *, at: str) -> None:
    """Begin an attempt of the open turn; its first step is a provider session where there is none. Without anything
    left of the session's budget the turn waits."""
    assert draft.state.turn is not None
    if is_over(draft.state.turn, at) and not draft.progress.sent_before:  # while it waited
        draft.end("turn.interrupted", at=at, error=PAST_DEADLINE)
        after_turn(draft, at=at)
        return
    if draft.state.retired is not None:
        rotate(draft, draft.state.retired.reason, at=at)
    if budget.used_up(draft.state):
        budget.pause(draft, at=at, now=at)
        return
    if draft.policy.capped and not draft.progress.reserved and not draft.state.begun:
        if (barred := draft.policy.barred.get(draft.state.turn.turn_id)) is not None:
            _hold(draft, barred, at=at)
            return
        draft.turn("turn.reserved", at=at)
    if draft.state.provider_session_id is None:
        if draft.state.prewarm != OPENING:  # else it begins with what comes of that (see `prewarm`)
            draft.ask(Open(turn_id=draft.state.turn.turn_id))
        return
    state = draft.state
    bound = Bound(
        provider_session_id=state.provider_session_id or "",
        agent=state.bound_agent or "",
        agent_version=state.bound_version,
        model=state.model or "",
        at=at,
    )
    start(draft, bound)


def _hold(draft: Draft, barred: Barred, *, at: str) -> None:
    """Have the open turn wait until turns that run give back what they reserved, or refuse it: what is spent comes
    back with another month, or never."""
    since = draft.progress.held_since or at
    waited = (parse(at) - parse(since)).total_seconds()
    if barred.waits and waited < draft.policy.give_up_after:
        wait = min(30.0, max(1.0, waited / 4)) * (0.5 + barred.chance)
        again_at = rfc3339(parse(at) + timedelta(seconds=wait))
        extra = {"reason": barred.type, "detail": barred.words, "retry_at": again_at}
        draft.turn("turn.retrying", at=at, shape=TurnRetrying, extra=extra)
        return
    error = TurnError(type=barred.type, message=barred.words)
    draft.end("turn.refused", at=at, error=error)
    after_turn(draft, at=at)


def start(draft: Draft, bound: Bound) -> None:
    """Begin the next attempt of the open turn on this provider session, at `bound.at`: those that ride along
    start with it, and the message is sent, unless its deadline has come; from the second attempt on it is looked
    for first."""
    turn = draft.state.turn
    assert turn is not None
    attempt, at = draft.progress.failures + 1, bound.at
    where: dict[str, Any] = {
        "provider_session_id": bound.provider_session_id,
        "agent": bound.agent,
        "agent_version": bound.agent_version or UNSET,
        "model": bound.model,
    }
    draft.turn(
        "turn.started",
        at=at,
        shape=TurnStarted,
        started_at=turn.started_at or max(at, turn.submitted_at),
        attempts=attempt,
        extra={**where, "ledger": True},
    )
    _start_riders(draft, where, attempt, at=at)
    if draft.progress.overdue:  # while the provider session was being made
        draft.end("turn.interrupted", at=at, error=PAST_DEADLINE)
        after_turn(draft, at=at)
        return
    draft.ask(
        Send(
            turn_id=turn.turn_id,
            input_id=draft.progress.input_id,
            attempt=attempt,
            look=attempt > 1,
            riders=tuple(rider.input_id for rider in draft.progress.carried),
            nudge=draft.progress.nudged,
        )
    )


def _start_riders(draft: Draft, where: dict[str, Any], attempt: int, *, at: str) -> None:
    lead = draft.state.open_turn
    for rider in draft.progress.carried:
        started = rider.turn.started_at or at
        turn = replace(rider.turn, status="running", started_at=started, attempts=attempt)
        data = TurnStarted(**fields(turn), **where, joined=lead)
        draft.own("turn.started", data, at=at, turn_id=turn.turn_id, traceparent=rider.traceparent)


def retry(
    draft: Draft,
    policy: Policy,
    error: TurnError,
    *,
    at: str,
    chance: float,
    wish: float | None = None,
) -> None:
    """The attempt failed: note when the next one is due, or give the turn up. `at` is the worker's time, `wish` the
    provider's `Retry-After` in seconds, `chance` a draw from [0, 1)."""
    progress = draft.progress
    if progress.overdue:
        draft.end("turn.interrupted", at=at, error=PAST_DEADLINE)
        after_turn(draft, at=at)
        return
    due = policy.next_retry(
        failures=progress.failures + 1,
        since=progress.failing_since or at,
        at=at,
        chance=chance,
        retry_after=wish,
    )
    if due is None and connection.may_pause(draft.state):
        connection.pause(draft, at=at)
        return
    if due is None or draft.state.status in CLOSED:
        give_up(draft, error, at=at)
        return
    extra = {"reason": error.type, "detail": error.message, "retry_at": due}
    draft.turn("turn.retrying", at=at, shape=TurnRetrying, extra=extra)


def give_up(draft: Draft, error: TurnError, *, at: str) -> None:
    """End the turn as failed, and put what was asked for aside where an operator finds it, also for those that rode
    along. A session that is closed leaves nothing behind."""
    ended = (rider for rider in draft.state.riders if rider.steer != "sent")
    ids = (draft.progress.input_id, *(rider.input_id for rider in ended))
    attempts = draft.progress.failures + 1
    draft.end("turn.failed", at=at, error=error)
    if draft.state.status not in CLOSED:
        detail = f"{error.type}: {error.message}"
        for id in ids:
            draft.ask(DeadLetter(input_id=id, reason=TURN_FAILED, detail=detail, attempts=attempts))
    after_turn(draft, at=at)


def rotate(draft: Draft, reason: str, *, at: str) -> None:
    """Give the provider session up, if there is one: what it cost is settled, and the next attempt opens another.

    The oldest of those given up is deleted when the state names as many as it can: whoever erases the session must
    know of all there are.
    """
    lost = draft.state.provider_session_id
    if lost is not None:
        draft.settle(at=at)
        if len(draft.state.given_up) == GIVEN_UP:
            draft.ask(Close(provider_session_id=draft.state.given_up[0], erase=True))
        draft.own("session.rotated", SessionRotated(provider_session_id=lost, reason=reason), at=at)


def after_turn(draft: Draft, *, at: str) -> None:
    """Take up the next turn, or note that nothing is left to do."""
    state = draft.state
    if state.turn is not None:
        begin(draft, at=at)
    elif state.status not in CLOSED:
        come_to_rest(draft, at=at)


def interrupt(draft: Draft, *, at: str, error: TurnError | None = None) -> None:
    """End the open turn, because of `error` if nobody asked: by ourselves while it waits for its next attempt, by
    the provider once it was sent."""
    if draft.state.turn is None:
        return
    if draft.progress.overdue:
        error = PAST_DEADLINE
    if draft.state.budget_pause is not None:
        budget.leave(draft, "turn.interrupted", at=at, error=error)
        after_turn(draft, at=at)
        return
    progress = draft.progress
    waiting = progress.retry_at or progress.gathers_until or draft.state.connection_pauses
    if waiting or progress.to_be_told:
        # Nothing was sent, or what runs was interrupted already and would go on by itself.
        draft.end("turn.interrupted", at=at, error=error)
        after_turn(draft, at=at)
    else:
        if error is PAST_DEADLINE and not draft.progress.overdue:
            draft.turn("turn.overdue", at=at, shape=TurnOverdue)
        draft.ask(Interrupt(turn_id=draft.state.turn.turn_id))


def past_deadline(draft: Draft, *, at: str) -> None:
    """End the turns whose deadline has come: those that wait are not sent, the open one is interrupted."""
    for queued in draft.state.queue:
        if is_over(queued.turn, at) and not queued.parked:
            turn = replace(queued.turn, status="interrupted", ended_at=at, error=PAST_DEADLINE)
            place = {"turn_id": turn.turn_id, "traceparent": queued.traceparent}
            draft.own("turn.interrupted", turn, at=at, **place)
    turn_open = draft.state.turn
    if turn_open is not None and is_over(turn_open, at) and not draft.progress.overdue:
        interrupt(draft, at=at, error=PAST_DEADLINE)


def seen_events(draft: Draft, seen: Seen, policy: Policy) -> None:
    """What is due later is reckoned from `seen.at`, and a turn that an event ends has ended then: the provider's
    clock is not ours."""
    for event in seen.events:
        if not draft.state.knows(event.id):
            named = any(action.tool_use_id == event.id for action in draft.state.pending)
            recorded = draft.provider(event)
            react = REACTIONS.get(event.type)
            if react is not None and event.thread_id is None and _working(draft):
                react(draft, recorded, policy, seen)
            if (
                named and draft.state.awaits_people
            ):  # what was asked for unseen can be described now
                _await_answers(draft, policy, at=event.at, now=seen.at)
    if draft.state.turn is None and draft.state.unsettled:
        draft.settle(at=seen.at)


def _working(draft: Draft) -> bool:
    """Whether a turn is with the provider: one that waits for a new provider session has nothing to hear of the
    one before."""
    return draft.state.begun and draft.state.provider_session_id is not None


def _on_idle(draft: Draft, event: Event, policy: Policy, seen: Seen) -> None:
    """Only the primary session's idle ends a turn, and never while answers are awaited."""
    reason = provider.stop_reason(event.data)
    if reason.type == "requires_action":
        _await_answers(draft, policy, at=event.at, now=seen.at)
    elif draft.progress.interrupted and draft.progress.to_be_told:
        error = TurnError(type="stalled", message="the agent was interrupted for its silence")
        retry(draft, policy, error, at=seen.at, chance=seen.chance)
    elif draft.progress.interrupted:
        _end_by_provider(draft, reason.type, at=seen.at)
    elif _gave_up(draft.progress, reason.type):
        _attempt_failed(draft, policy, _provider_error(draft, reason.type), seen)
    elif draft.progress.prompted and reason.type == budget.BUDGET_REACHED:
        _at_budget(draft, event, now=seen.at)
    elif draft.progress.prompted:
        _end_by_provider(draft, reason.type, at=seen.at)


def _gave_up(progress: Progress, reason: str) -> bool:
    """Whether the provider gave the turn up, at the latest with an idle of this `reason`."""
    known = progress.prompted or bool(progress.unconnected)
    return progress.exhausted or (reason == "retries_exhausted" and known)


def _attempt_failed(draft: Draft, policy: Policy, error: TurnError, seen: Seen) -> None:
    """Try the turn again later, or, where that is of no use, have it wait for an MCP server to be connected."""
    state = draft.state
    if connection.is_refused(state) and connection.may_pause(state):
        if not connection.was_renewed(state):
            connection.pause(draft, at=seen.at)
            return
        rotate(draft, connection.RENEWED, at=seen.at)
    retry(draft, policy, error, at=seen.at, chance=seen.chance)


def _await_answers(draft: Draft, policy: Policy, *, at: str, now: str) -> None:
    waiting = frozenset(action.tool_use_id for action in draft.state.pending)
    if waiting and not waiting <= draft.progress.announced:
        answer_by = None
        if policy.answer_within is not None:
            answer_by = rfc3339(parse(now) + timedelta(seconds=policy.answer_within))
        extra = {"pending_actions": draft.state.pending, "answer_by": answer_by}
        draft.turn("turn.requires_action", at=at, shape=TurnRequiresAction, extra=extra)


def _at_budget(draft: Draft, idle: Event, *, now: str) -> None:
    """The session has used its budget up: in the middle of the turn, or with its last request."""
    if draft.progress.finished:
        _end_by_provider(draft, budget.BUDGET_REACHED, at=now)
    else:
        budget.pause(draft, at=idle.at, now=now, stop=idle.event_id)
        if draft.progress.overdue:  # a session at its budget hears no interrupt
            interrupt(draft, at=now)


def _end_by_provider(draft: Draft, reason: str, *, at: str) -> None:
    """A reason this code does not know ends the turn too: the agent stopped and the client must hear of it."""
    if draft.progress.interrupted:
        error = PAST_DEADLINE if draft.progress.overdue else None
        draft.end("turn.interrupted", at=at, stop_reason=reason, error=error)
    elif reason == "refusal":
        error = TurnError(type="refusal", message="the agent declined to answer")
        draft.end("turn.refused", at=at, stop_reason=reason, error=error)
    else:
        draft.end("turn.completed", at=at, stop_reason=reason)
    after_turn(draft, at=at)


def _on_terminated(draft: Draft, event: Event, policy: Policy, seen: Seen) -> None:
    """The provider session is gone for good: by our own wish, or the turn goes on in another one."""
    if draft.state.status in CLOSED:
        draft.end("turn.interrupted", at=seen.at)
        return
    error = _provider_error(draft, "session_terminated")
    rotate(draft, error.type, at=seen.at)
    _attempt_failed(draft, policy, error, seen)


def _provider_error(draft: Draft, fallback: str) -> TurnError:
    progress = draft.progress
    return TurnError(
        type=progress.error_type or fallback,
        message=progress.error_message or f"the provider gave up: {fallback}",
    )


REACTIONS: dict[str, Callable[[Draft, Event, Policy, Seen], None]] = {
    "session.status_idle": _on_idle,
    "session.status_terminated": _on_terminated,
    "session.deleted": _on_terminated,
}
