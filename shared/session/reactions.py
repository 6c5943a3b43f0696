"""What the provider's events come to: when a turn ends, waits for people, or has to be tried again."""

from __future__ import annotations

from collections.abc import Callable
from datetime import timedelta

from shared.moment import parse, rfc3339
from shared.session import provider
from shared.session.attempts import (
    BUDGET_REACHED,
    CLOSED,
    after_turn,
    end_by_budget,
    retry,
    rotate,
)
from shared.session.decision import Draft
from shared.session.events import Event, TurnError, TurnRequiresAction
from shared.session.inputs import Seen
from shared.session.policy import Policy


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
    elif draft.progress.exhausted or (
        reason.type == "retries_exhausted" and draft.progress.prompted
    ):
        retry(draft, policy, _provider_error(draft, reason.type), at=seen.at, chance=seen.chance)
    elif draft.progress.prompted:
        _end_by_provider(draft, reason.type, at=seen.at)


def _await_answers(draft: Draft, policy: Policy, *, at: str, now: str) -> None:
    waiting = frozenset(action.tool_use_id for action in draft.state.pending)
    if waiting and not waiting <= draft.progress.announced:
        answer_by = None
        if policy.answer_within is not None:
            answer_by = rfc3339(parse(now) + timedelta(seconds=policy.answer_within))
        extra = {"pending_actions": draft.state.pending, "answer_by": answer_by}
        draft.turn("turn.requires_action", at=at, shape=TurnRequiresAction, extra=extra)


def _end_by_provider(draft: Draft, reason: str, *, at: str) -> None:
    """A reason this code does not know ends the turn too: the agent stopped and the client must hear of it."""
    if draft.progress.interrupted:
        draft.end("turn.interrupted", at=at, stop_reason=reason)
    elif reason == BUDGET_REACHED:
        end_by_budget(draft, at=at)
        return
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
    retry(draft, policy, error, at=seen.at, chance=seen.chance)


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
