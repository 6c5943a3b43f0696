"""What is kept of an erased session once nothing of it is under way: a row that says so, and nothing that was
said.

The row is the worker's tombstone: whatever is asked of the session later is filed, refused and forgotten again. As
long as the provider does not let go of a provider session, the row keeps its id, and becomes due again.
"""

from __future__ import annotations

from collections.abc import Callable, Collection
from datetime import datetime, timedelta

from msgspec.structs import replace

from services.agent_worker.ports import Head, Provider, ProviderFailure
from shared import logs
from shared.moment import rfc3339
from shared.session.state import SessionState

# How long a provider session that could not be deleted is left alone.
AGAIN = timedelta(seconds=30)
log = logs.get(__name__)


def is_over(head: Head) -> bool:
    """Whether an erased session has nothing more to do or say."""
    return head.state.status == "erased" and head.state.turn is None and not head.todo


async def left_elsewhere(state: SessionState, provider: Callable[[], Provider]) -> list[str]:
    """Delete the session's provider sessions, also those given up before; returns those that are there still.
    `provider`: see Performer."""
    last, left = state.provider_session_id, []
    for session in (*state.given_up, *((last,) if last else ())):
        try:
            await provider().close(session, erase=True)
        except ProviderFailure as failure:
            log.warning("not_erased_yet", provider_session_id=session, reason=failure.reason)
            left.append(session)
    return left


def forgotten(head: Head, left: Collection[str]) -> Head:
    """The head with its ids, its place in the log, what is `left` to delete at the provider, and nothing else."""
    state = head.state
    kept = SessionState(
        tenant_id=state.tenant_id,
        session_id=state.session_id,
        user_id=state.user_id,
        status=state.status,
        last_seq=state.last_seq,
        opened_at=state.opened_at,
        given_up=tuple(left),
    )
    return replace(head, state=kept, unsaid=(), todo=())


def again_at(head: Head, now: datetime) -> str | None:
    """When to go on with a forgotten session; None: it is done."""
    return rfc3339(now + AGAIN) if head.state.given_up else None
