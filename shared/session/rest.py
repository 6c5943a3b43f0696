"""What becomes of a session that no turn keeps busy: it is idle after a while, and later its provider session goes.

Nothing waits in memory for it: what comes next is in the state (`Rest`), and the row is due then. Our session
stays: its next turn gets another provider session, which is told what was said (`rotate`). So whatever is decided
here late, because nobody looked or a clock stood wrong, costs nobody a turn.

A provider session is retired while the session is bound to it: whoever performs Close hears the last it has to say
before it is closed. It is left with the next turn.
"""

from __future__ import annotations

from datetime import timedelta

from msgspec.structs import replace

from shared.moment import parse, rfc3339
from shared.session.commands import Close
from shared.session.decision import Draft
from shared.session.events import DONE, IDLE, SessionClosed, SessionIdled, Usage
from shared.session.lifetimes import Lifetimes
from shared.session.state import SessionState

LENGTH = "length"


def come_to_rest(draft: Draft, *, at: str) -> None:
    """The last turn has ended and none waits."""
    state, lifetimes = draft.state, draft.policy.lifetimes
    turn_id = draft.last_turn_id
    if lifetimes is None or state.provider_session_id is None:
        _idled(draft, turn_id, at=at)
    elif state.mode == "background":
        _idled(draft, turn_id, at=at)
        _archive(draft, DONE, at=at)
    else:
        due = _due(state, lifetimes, at)
        worn = state.retired is None and _is_worn(state, lifetimes)
        _idled(draft, turn_id, at=at, **due, **({"retires": LENGTH} if worn else {}))
        if worn:
            _close(draft, erase=False)


def rest_on(draft: Draft, *, at: str) -> None:
    """Do what is due by now while no turn is open."""
    rest = draft.state.rest
    if rest is None or rest.due_at is None or rest.due_at > at:
        return
    if rest.archive_at is not None and rest.archive_at <= at:
        _archive(draft, IDLE, at=at)
    else:
        due = {"archive_at": rest.archive_at} if rest.archive_at else {}
        _idled(draft, rest.last_turn_id, at=at, idle_since=rest.since, **due)


def _idled(draft: Draft, last_turn_id: str, *, at: str, **more: str) -> None:
    state = draft.state
    data = SessionIdled(last_turn_id=last_turn_id, usage=state.usage, cost_usd=state.cost_usd)
    draft.own("session.idled", replace(data, **more), at=at)


def _due(state: SessionState, lifetimes: Lifetimes, at: str) -> dict[str, str]:
    """When the session that comes to rest now is idle, and when it is archived."""
    settings = {"idle_at": lifetimes.idle, "archive_at": lifetimes.archive}
    seconds = {what: by.of(state.tenant_id, state.mode) for what, by in settings.items()}
    return {what: _later(at, wait) for what, wait in seconds.items() if wait}


def _archive(draft: Draft, reason: str, *, at: str) -> None:
    """Archive the session, to go on with its next turn. What a background session leaves at the provider nobody
    looks at again: that is deleted."""
    closed = draft.state.retired is not None
    draft.own("session.archived", SessionClosed(reason=reason), at=at)
    if not closed:
        _close(draft, erase=reason == DONE)


def _close(draft: Draft, *, erase: bool) -> None:
    session = draft.state.provider_session_id
    if session is not None:
        draft.ask(Close(provider_session_id=session, erase=erase))


def _is_worn(state: SessionState, lifetimes: Lifetimes) -> bool:
    """Whether the provider session had as many turns, tokens or compactions as one may have."""
    spent = state.ledger.tokens if state.ledger else Usage()
    tokens = spent.input_tokens + spent.output_tokens
    tokens += spent.cache_read_tokens + spent.cache_write_tokens
    had = (
        (lifetimes.turns, state.length.turns),
        (lifetimes.tokens, tokens),
        (lifetimes.compactions, state.length.compactions),
    )
    bounds = ((kind.of(state.tenant_id, state.mode), count) for kind, count in had)
    return any(bound and count >= bound for bound, count in bounds)


def _later(at: str, seconds: float) -> str:
    return rfc3339(parse(at) + timedelta(seconds=seconds))
