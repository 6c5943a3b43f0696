"""The gateway's rows, `?at_seq=` and the core's fold say the same of every session, after every event."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from pathlib import Path

import msgspec
import pytest
from hypothesis import given as for_all
from hypothesis import settings
from hypothesis import strategies as st
from msgspec.structs import replace

from services.gateway.ports import Entry, Record, StoredSession
from services.gateway.read_model.project import forgotten
from services.gateway.read_model.projector import Projector
from services.gateway.read_model.refold import Refold, state_at
from services.gateway.streams.history import History
from services.gateway.streams.live import Live
from services.gateway.views import SessionView, kept, session_view, turn_view
from shared.bus.topics import EVENTS
from shared.session import Event, Input, SessionState, fold
from shared.session.events import TURN_ENDS, Turn
from tests.builders import (
    SESSION,
    TENANT,
    Wire,
    archiving,
    bound,
    confirming,
    elapsed,
    interrupting,
    opening,
    seen,
    turn,
)
from tests.fakes.gateway import (
    MemoryEventArchive,
    MemoryEventLog,
    MemoryReadModel,
    MemoryRecordConsumer,
)
from tests.golden.test_sessions import LOGS, events_of
from tests.unit.session.histories import GATHERED, LATER, NAMED, RUNNING, random_histories
from tests.unit.session.specification import history

pytestmark = pytest.mark.unit
KEY = (TENANT, SESSION)


def _archived_while_asking() -> tuple[Input, ...]:
    wire = Wire()
    prompt, call = wire.prompt(), wire.tool_use("ask")
    return (
        *(opening(), *RUNNING, seen(prompt, wire.running()), archiving(5)),
        *(seen(call, wire.idle("requires_action", call.id)), confirming(call.id, 6)),
        seen(wire.confirmed(call.id), wire.running(), wire.message("done"), wire.idle()),
    )


def _interrupted_by_three() -> tuple[Input, ...]:
    wire = Wire()
    return (
        *RUNNING,
        *(turn(f"i{n}", f"no, {n}", n, on_busy="interrupt") for n in (1, 2, 3)),
        seen(wire.prompt(), wire.interrupted(), wire.idle()),
        seen(wire.prompt(), wire.running(), wire.message("three"), wire.idle()),
        interrupting(LATER),
    )


# All three go out in one message, known again by its last text.
COALESCED = (*GATHERED, elapsed(1), bound(), seen(*Wire().reply("part 2")))
EVERY: dict[str, tuple[Input, ...]] = {
    **NAMED,
    "coalesced, all ended": COALESCED,
    "coalesced, then one more": (
        *(*COALESCED, turn("t9", second=30)),
        seen(*Wire("two", second=30).reply()),
    ),
    "archived while asking": _archived_while_asking(),
    "interrupted by three": _interrupted_by_three(),
}


def _record(event: Event) -> Record:
    key = event.session_id.encode()
    return Record(EVENTS.name, 0, event.seq, key, msgspec.json.encode(event), [])


async def _projected(*batches: Sequence[Event], into: MemoryReadModel) -> None:
    feed = MemoryRecordConsumer([[_record(event) for event in batch] for batch in batches])
    projector = Projector(feed, into, lambda _: True)
    for _ in batches:
        await projector.step()


def _history_of(events: Sequence[Event], model: MemoryReadModel) -> History:
    entries = [Entry(e.seq, e.type, e.at, msgspec.json.encode(e)) for e in events]
    return History(MemoryEventArchive({KEY: entries}), MemoryEventLog(), Live(), model)


def _by_the_core(state: SessionState, created_at: str) -> tuple[SessionView, SessionState]:
    """The view and state that a fold came to; of an erased session ids and sums are left."""
    state = forgotten(state) if state.status == "erased" else kept(state)
    return session_view(state, created_at), state


def _turns_by_the_core(events: Sequence[Event], state: SessionState) -> dict[str, str]:
    """The status of every turn: of the open one as the state has it, else as its newest event has it."""
    turns: dict[str, str] = {
        event.turn_id or "": msgspec.json.decode(event.data, type=Turn).status
        for event in events
        if event.type.startswith("turn.")
    }
    if state.turn is not None:
        turns[state.turn.turn_id] = state.turn.status
    return turns


def _same(model: MemoryReadModel, events: Sequence[Event], folded: SessionState) -> None:
    """`folded` is what the core's fold makes of the events."""
    view, state = _by_the_core(folded, events[0].at)
    row = model.rows[KEY]
    assert (row.page.view, row.state) == (view, state)
    if state.status != "erased":
        shown = {key[2]: stored.view for key, stored in model.turns.items()}
        assert {id: turn.status for id, turn in shown.items()} == _turns_by_the_core(events, folded)
        for event in events:
            if event.type in TURN_ENDS:
                ended = msgspec.json.decode(event.data, type=Turn)
                assert shown[ended.turn_id] == turn_view(SESSION, ended, event.trace_id)


async def _hold(events: Sequence[Event]) -> None:
    """One event a batch, all in one batch, folded anew from the history: each as the core has it."""
    folded = [fold(events[:count]) for count in range(1, len(events) + 1)]
    model = MemoryReadModel()
    for count, event in enumerate(events, 1):
        await _projected([event], into=model)
        _same(model, events[:count], folded[count - 1])
    whole = MemoryReadModel()
    await _projected(events, events, into=whole)
    _same(whole, events, folded[-1])
    if model.rows[KEY].page.view.status == "erased":
        return
    page, again = model.rows[KEY].page, MemoryReadModel()
    again.rows[KEY] = StoredSession(replace(page, view=replace(page.view, status="running")))
    history = _history_of(events, again)
    await Refold(again, history).fold(KEY)
    _same(again, events, folded[-1])
    assert again.rows[KEY].page.settled == page.settled
    asked = replace(page.view, created_at=events[0].at)
    for seq, state in enumerate(folded, 1):
        assert await state_at(history, asked, seq) == _by_the_core(state, events[0].at)[0]


@pytest.mark.parametrize("log", LOGS, ids=lambda log: f"{log.parent.name}-{log.stem}")
async def test_every_golden_log_is_shown_as_the_core_folds_it(log: Path) -> None:
    await _hold(events_of(log))


@pytest.mark.parametrize("name", EVERY)
async def test_every_named_history_is_shown_as_the_core_folds_it(name: str) -> None:
    await _hold(history(*EVERY[name]))


@for_all(random_histories())
@settings(deadline=None, max_examples=200)
def test_any_history_is_shown_as_the_core_folds_it(inputs: tuple[Input, ...]) -> None:
    if events := history(*inputs):
        asyncio.run(_hold(events))


@for_all(random_histories(), st.data())
@settings(deadline=None, max_examples=200)
def test_any_history_cut_and_repeated_anywhere_is_shown_the_same(
    inputs: tuple[Input, ...], data: st.DataObject
) -> None:
    """Rebalances and rewinds hand out batches again, cut elsewhere."""
    if not (events := history(*inputs)):
        return
    places = st.integers(0, len(events))
    cuts = data.draw(st.lists(st.tuples(places, places), max_size=6))
    reached, batches = 0, []
    for start, end in cuts:
        start = min(start, reached)
        batches.append(events[start:end])
        reached = max(reached, end)
    model = MemoryReadModel()
    asyncio.run(_projected(*(b for b in [*batches, events] if b), into=model))
    _same(model, events, fold(events))


async def test_coalesced_turns_that_all_ended_leave_the_session_at_rest() -> None:
    model = MemoryReadModel()
    await _projected(history(*COALESCED), into=model)
    view = model.rows[KEY].page.view
    assert (view.status, view.open_turn) == ("idle", None)
    assert {turn.view.status for turn in model.turns.values()} == {"completed"}


async def test_a_session_archived_while_an_approval_is_under_way_stays_archived() -> None:
    model = MemoryReadModel()
    await _projected(history(*_archived_while_asking()), into=model)
    view = model.rows[KEY].page.view
    assert (view.status, view.open_turn, view.pending_actions) == ("archived", None, ())
