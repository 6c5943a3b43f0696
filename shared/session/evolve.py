"""`evolve(state, event) -> state`: what an event means for what is known. Total for what was recorded.

Raises IllegalTransition for a log that can't be: one that goes on with a turn that is not open. Raises UnknownShape
for an event that a newer build wrote in a shape of its own."""

from __future__ import annotations

from collections.abc import Iterable

from msgspec.structs import replace

from shared.session import provider
from shared.session.events import OWN_TYPES, Event
from shared.session.evolve_own import OWN
from shared.session.evolve_provider import PROVIDER, unfamiliar
from shared.session.state import TAIL, SessionState, initial
from shared.session.upcast import lifted


def evolve(state: SessionState, event: Event) -> SessionState:
    """The state after `event`. The caller gives events in order of `seq`."""
    if event.type in OWN_TYPES:
        event = lifted(event)
        return replace(OWN[event.type](state, event), last_seq=event.seq)
    state = replace(_remember(state, event), last_seq=event.seq)
    return PROVIDER.get(event.type, unfamiliar)(state, event)


def fold(events: Iterable[Event], state: SessionState | None = None) -> SessionState:
    """The state after all of `events` (of one session, from seq 1 unless `state` is given).

    Raises ValueError when there is neither a state nor an event.
    """
    for event in events:
        if state is None:
            state = initial(event.tenant_id, event.session_id)
        state = evolve(state, event)
    if state is None:
        raise ValueError("nothing to fold: no events and no state")
    return state


def _remember(state: SessionState, event: Event) -> SessionState:
    """What the primary thread shows of a child (its states, its calls that wait) the child's own list holds under
    the same id: it is remembered for both."""
    thread = event.thread_id
    if thread is None:
        state = replace(state, tail=(*state.tail[-TAIL + 1 :], event.event_id))
        thread = provider.thread_of(event.data) if state.threads else None
        if thread not in state.threads:
            return state
    tail = state.threads.get(thread, ())
    return replace(state, threads={**state.threads, thread: (*tail[-TAIL + 1 :], event.event_id)})
