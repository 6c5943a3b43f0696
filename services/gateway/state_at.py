"""What was known of a session at a seq? The pure core's `fold` over its recorded events."""

from __future__ import annotations

import asyncio

from msgspec.structs import replace

from services.gateway.history import History
from services.gateway.views import SessionStatus, SessionView
from shared.errors import Rejected
from shared.session.events import read_event
from shared.session.evolve import evolve
from shared.session.state import SessionState, initial

# Folding is work for the processor: after so many events others get their turn.
BREATH = 200


async def state_at(history: History, view: SessionView, seq: int) -> SessionView:
    """The session after event `seq`. Raises Rejected (`invalid_request`) when there is none."""
    key = (view.tenant_id, view.session_id)
    newest = await history.newest(key)
    if not 1 <= seq <= newest:
        there_is = f"must be from 1 to {newest}" if newest else "nothing is recorded yet"
        raise Rejected("invalid_request", there_is, field="at_seq")
    state = initial(*key)
    async for entry in history.read(key, 0, seq):
        state = evolve(state, read_event(entry.value))
        if entry.seq % BREATH == 0:
            await asyncio.sleep(0)
    return _as_view(view, state)


def _as_view(view: SessionView, state: SessionState) -> SessionView:
    status: SessionStatus = "idle" if state.status == "new" else state.status
    return replace(
        view,
        user_id=state.user_id,
        status=status,
        title=state.title,
        metadata=state.metadata,
        agent=state.agent,
        mode=state.mode,
        budget_usd=state.budget_usd,
        vault_ids=state.vault_ids,
        last_seq=state.last_seq,
        open_turn=state.open_turn,
        pending_actions=state.pending,
        usage=state.usage,
        cost_usd=state.cost_usd,
    )
