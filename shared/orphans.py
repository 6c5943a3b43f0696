"""Provider sessions that we made and nobody is bound to. Pure.

A worker that dies between making a provider session and journaling it leaves one behind. The next attempt at the
turn adopts it; when there is none, because the turn ended otherwise, it stays: that is an orphan.
"""

from __future__ import annotations

from datetime import datetime, timedelta

from shared.moment import parse
from shared.session.key import SessionKey

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

    `bound_to` is what that session's head row is bound to ("": nothing), `working` whether it has an open turn,
    which may be about to adopt. Sessions of which there is no head row are not ours to judge: another
    installation may use the same account.
    """
    if provider_session_id == bound_to or (working and not bound_to):
        return False
    try:
        return now - parse(created_at) >= at_least
    except ValueError:
        return False
