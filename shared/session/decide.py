"""`decide(state, input) -> Decision`: the rules of a session.

They are in `requests.py` (what is asked), `attempts.py` (how a turn is tried), `reactions.py` (what the provider
says) and the table in `transitions.py`; this file joins them.

Theory. A session is a conversation that outlives processes and provider sessions. It works on one turn at a time:
the *open turn*; others wait in its queue. A turn goes to the agent in *attempts*. An attempt begins when
`turn.started` is recorded and the command Send is journaled, and ends in one of three ways: the provider goes idle
for a reason that ends turns, the attempt fails (then the session waits until `retry_at`, holding nothing), or the
turn is interrupted. When a turn ends the next one in the queue is taken up in the same decision.

What the provider says is recorded first and judged afterwards: an event is never dropped because a rule did not
expect it. Events that are known already (the stream and the list overlap, a restart reads again) change nothing.

No clock, no randomness, no IO: time and chance are in the inputs, so that the same input gives the same events
byte for byte, whoever decides and however often.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from shared.session import budget
from shared.session.commands import Close
from shared.session.decision import Decision, Draft
from shared.session.events import TurnError
from shared.session.inputs import (
    Bound,
    BudgetRefused,
    BudgetSet,
    DeadlineElapsed,
    Failed,
    Filed,
    Heard,
    Input,
    NothingRan,
    Seen,
    Silent,
)
from shared.session.policy import DEFAULT, Policy
from shared.session.prewarm import prewarm_failed, prewarmed
from shared.session.requests import requested
from shared.session.rest import rest_on
from shared.session.state import CLOSED, OPENING, SessionState
from shared.session.steering import steer
from shared.session.turn_ends import (
    begin,
    give_up,
    interrupt,
    past_deadline,
    retry,
    rotate,
    seen_events,
    start,
)
from shared.session.waiting import deny, stall


def decide(
    state: SessionState, input: Input, policy: Policy = DEFAULT, heard: Heard | None = None
) -> Decision:
    """The events and commands that follow from `input` in `state`, with what was `heard` of the open turn. Never
    raises for anything a client or the provider may do."""
    draft = Draft(state, policy, heard)
    DECIDERS[type(input)](draft, input, policy)
    return draft.finish()


def _filed(draft: Draft, filed: Filed, policy: Policy) -> None:
    requested(draft, filed, policy)


def _seen(draft: Draft, seen: Seen, policy: Policy) -> None:
    if not _of_one_left(draft, seen):
        seen_events(draft, seen, policy)
        steer(draft, at=seen.at)


def _of_one_left(draft: Draft, told: Seen | Failed) -> bool:
    """Whether that is of a provider session which the session is not bound to any more."""
    of = told.provider_session_id
    return of not in ("", draft.state.provider_session_id)


def _bound(draft: Draft, bound: Bound, policy: Policy) -> None:
    if draft.state.prewarm == OPENING:
        prewarmed(draft, bound, policy)
    elif draft.state.status in CLOSED:
        # It was closed while its provider session was being made: nothing was sent, and nobody else knows of it.
        erase = draft.state.status == "erased"
        draft.ask(Close(provider_session_id=bound.provider_session_id, erase=erase))
        if draft.state.turn is not None:
            draft.end("turn.interrupted", at=bound.at)
    elif draft.state.turn is not None and draft.state.provider_session_id is None:
        start(draft, bound)


def _failed(draft: Draft, failed: Failed, policy: Policy) -> None:
    if not failed.turn_id and draft.state.prewarm == OPENING:
        prewarm_failed(draft, failed.reason, failed.detail, at=failed.at)
        return
    if failed.turn_id != draft.state.open_turn or _of_one_left(draft, failed):
        return
    if draft.progress.prompted and not (failed.lost or failed.final):
        return  # the send seemed to fail, but the agent has taken the message up: never send it again
    if draft.state.connection_pauses and not failed.lost:
        return  # the attempt was heard to fail, and waits for people
    if failed.lost:
        waits = draft.progress.retry_at is not None
        rotate(draft, failed.reason, at=failed.at)
        if waits:
            return  # no attempt was under way: that one has failed before, perhaps by the session's own last words
    if failed.reason == budget.BUDGET_REACHED and failed.final:
        budget.pause(draft, at=failed.at, now=failed.at)  # the provider takes no message
        return
    error = TurnError(type=failed.reason, message=failed.detail)
    if failed.final:
        give_up(draft, error, at=failed.at)
    else:
        retry(draft, policy, error, at=failed.at, chance=failed.chance, wish=failed.retry_after)


def _deadline_elapsed(draft: Draft, elapsed: DeadlineElapsed, policy: Policy) -> None:
    past_deadline(draft, at=elapsed.at)
    progress = draft.state.progress
    if progress is None:
        rest_on(draft, at=elapsed.at)
        return
    begins = progress.retry_at or progress.gathers_until
    if begins is not None and begins <= elapsed.at:
        begin(draft, at=elapsed.at)
    elif draft.state.awaits_people and progress.answer_by and progress.answer_by <= elapsed.at:
        deny(draft, at=elapsed.at)


def _silent(draft: Draft, silent: Silent, policy: Policy) -> None:
    stall(draft, policy, since=silent.since, at=silent.at, chance=silent.chance)


def _nothing_ran(draft: Draft, found: NothingRan, policy: Policy) -> None:
    if found.turn_id == draft.state.open_turn and not draft.progress.to_be_told:
        interrupt(draft, at=found.at)


def _budget_set(draft: Draft, done: BudgetSet, policy: Policy) -> None:
    if budget.raised(draft, done):
        begin(draft, at=done.at)


def _budget_refused(draft: Draft, refusal: BudgetRefused, policy: Policy) -> None:
    budget.refused(draft, refusal)


DECIDERS: dict[type, Callable[[Draft, Any, Policy], None]] = {
    Filed: _filed,
    Seen: _seen,
    Bound: _bound,
    Failed: _failed,
    DeadlineElapsed: _deadline_elapsed,
    Silent: _silent,
    NothingRan: _nothing_ran,
    BudgetSet: _budget_set,
    BudgetRefused: _budget_refused,
}
