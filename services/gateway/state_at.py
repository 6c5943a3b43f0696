"""What was known of a session at a seq? The pure core's `fold` over its recorded events."""

from __future__ import annotations

import asyncio

from services.gateway.history import History
from services.gateway.views import SessionView, session_view
from shared.errors import Rejected
from shared.session.events import read_event
from shared.session.evolve import evolve
from shared.session.state import initial

# Folding is work for the processor: after so many events others get their turn.
BREATH = 200


async def state_at(history: History, view: SessionView, seq: int) -> SessionView:
    """The session after event `seq`. Raises Rejected (`invalid_request`) when there is none."""
    key = (view.tenant_id, view.session_id)
    newest = await history.reach(key, seq) if seq > 0 else await history.newest(key)
    if not 1 <= seq <= newest:
        there_is = f"must be from 1 to {newest}" if newest else "nothing is recorded yet"
        raise Rejected("invalid_request", there_is, field="at_seq")
    state = initial(*key)
    async for entry in history.read(key, 0, seq):
        state = evolve(state, read_event(entry.value))
        if entry.seq % BREATH == 0:
            await asyncio.sleep(0)
    return session_view(state, view.created_at)
