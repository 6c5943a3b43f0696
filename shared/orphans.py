"""Provider sessions that we made and nobody is bound to. Pure.

A worker that dies between making a provider session and journaling it leaves one behind. The next attempt at the
turn adopts it; when there is none, because the turn ended otherwise, it stays: that is an orphan.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime, timedelta

from shared.moment import parse
from shared.session.commands import AnyCommand, Close
from shared.session.key import SessionKey
from shared.session.state import SessionState

# One of the provider's 16 metadata pairs is ours: `tenant/session`.
MARK = "turnstile"
# Younger ones may be adopted yet: a turn is tried for a quarter of an hour, and looks ten minutes further back.
ADOPTABLE = timedelta(minutes=30)


def mark(tenant_id: str, session_id: str) -> str:
    """What a provider session of ours carries under MARK."""
    return f"{tenant_id}/{session_id}"


def owner(marked: str) -> SessionKey | None:
    """Tenant and session of a mark; None when it is none of ours."""
    tenant, slash, session = marked.partition("/")
    return (tenant, session) if slash and tenant and session else None


def used_by(state: SessionState, todo: Sequence[AnyCommand]) -> str:
    """The provider session that a session goes on in, or will close itself as its row says; "" where there is
    none."""
    bound_to = state.provider_session_id or ""
    closing = any(isinstance(do, Close) and do.provider_session_id == bound_to for do in todo)
    left = state.retired is not None or state.status in ("archived", "erased")
    return "" if left and state.turn is None and not closing else bound_to


def is_orphan(
    provider_session_id: str,
    *,
    created_at: str,
    bound_to: str,
    working: bool,
    now: datetime,
    at_least: timedelta,
) -> bool:
    """Whether nobody will ever use a provider session that carries the mark of a session we know.

    `bound_to` is what that session's head row uses (`used_by`), `working` whether it has an open turn or is being
    prewarmed, which may be about to adopt. Sessions of which there is no head row are not ours to judge: another
    installation may use the same account.
    """
    if provider_session_id == bound_to or (working and not bound_to):
        return False
    try:
        return now - parse(created_at) >= at_least
    except ValueError:
        return False
