"""What comes of a provider session that was asked for before any turn.

While it is being made a turn that comes makes none of its own: it begins with what comes of this one. What fails
here fails nobody's turn, and is not tried again before one comes.
"""

from __future__ import annotations

from datetime import timedelta

from msgspec import UNSET

from shared.moment import parse, rfc3339
from shared.session.commands import Close
from shared.session.decision import Draft
from shared.session.events import SessionPrewarmed, SessionPrewarmFailed
from shared.session.inputs import Bound
from shared.session.policy import Policy
from shared.session.state import CLOSED
from shared.session.turn_ends import begin


def prewarmed(draft: Draft, bound: Bound, policy: Policy) -> None:
    """The provider session exists: the first turn finds it, or it is archived again."""
    status = draft.state.status
    if status in CLOSED:
        # Closed while it was being made: nobody else knows of it.
        made = bound.provider_session_id
        draft.ask(Close(provider_session_id=made, erase=status == "erased"))
        words = f"the session was {status} while {made} was being made"
        prewarm_failed(draft, f"session_{status}", words, at=bound.at)
        return
    archive_at = rfc3339(parse(bound.at) + timedelta(seconds=policy.prewarm_for))
    data = SessionPrewarmed(
        provider_session_id=bound.provider_session_id,
        agent=bound.agent,
        model=bound.model,
        agent_version=bound.agent_version or UNSET,
        archive_at=archive_at if draft.state.turn is None else UNSET,
    )
    draft.own("session.prewarmed", data, at=bound.at)
    _go_on(draft, at=bound.at)


def prewarm_failed(draft: Draft, reason: str, detail: str, *, at: str) -> None:
    """There is none: the turn that waits for it, or that comes, makes one as usual."""
    failed = SessionPrewarmFailed(reason=reason, detail=detail)
    draft.own("session.prewarm_failed", failed, at=at)
    _go_on(draft, at=at)


def _go_on(draft: Draft, *, at: str) -> None:
    """Begin the turn that has come meanwhile, unless it waits for something else, or its session was closed."""
    state = draft.state
    if state.turn is None:
        return
    if state.status in CLOSED:
        draft.end("turn.interrupted", at=at)
        return
    waits_until = draft.progress.retry_at or draft.progress.gathers_until
    if state.budget_pause is None and (waits_until is None or waits_until <= at):
        begin(draft, at=at)
