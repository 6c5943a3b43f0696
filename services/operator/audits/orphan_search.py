"""Orphans: provider sessions of ours, compared with the head rows."""

from __future__ import annotations

from collections.abc import AsyncIterator
from datetime import datetime, timedelta

from services.operator.audits.finding import Finding
from services.operator.audits.inbox import Inbox
from services.operator.audits.provider import Provider
from shared.orphans import MARK, is_orphan, owner

# Sessions looked through, newest first.
MAX_LOOKED_AT = 100_000


async def orphans(
    provider: Provider,
    inbox: Inbox,
    *,
    now: datetime,
    since: datetime,
    at_least: timedelta,
    tenant: str = "",
    session: str = "",
) -> AsyncIterator[Finding]:
    """Those made between `since` and `at_least` ago; "" is any tenant or session. A mark of a session without a
    head row is left alone: another installation may use the same account."""
    looked_at = 0
    async for found in provider.sessions(since):
        looked_at += 1
        if looked_at > MAX_LOOKED_AT:
            return
        key = owner(found.metadata.get(MARK, ""))
        over = found.archived_at is not None or found.status == "terminated"
        if key is None or over or tenant not in ("", key[0]) or session not in ("", key[1]):
            continue
        head = await inbox.head(*key)
        if head is not None and is_orphan(
            found.id,
            created_at=found.created_at,
            bound_to=head.uses,
            working=head.working,
            now=now,
            at_least=at_least,
        ):
            words = f"made at {found.created_at}, used by no session"
            yield Finding("orphan", *key, words, provider_session_id=found.id)
