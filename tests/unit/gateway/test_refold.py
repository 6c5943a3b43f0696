"""Rows without a state, or with an old one, are folded anew from the history."""

from __future__ import annotations

import asyncio

import msgspec
import pytest
from msgspec.structs import replace

from services.gateway.ports import Changes, Entry, Record, StoredSession
from services.gateway.read_model import refold
from services.gateway.read_model.projector import Projector
from services.gateway.read_model.refold import Refold
from services.gateway.streams.history import History
from services.gateway.streams.live import Live
from services.gateway.views import SessionPage, SessionView
from shared.bus.topics import EVENTS
from shared.errors import Transient
from shared.session import Event, fold
from tests.builders import SESSION, TENANT, Wire, bound, opening, seen, turn
from tests.fakes.gateway import (
    MemoryEventArchive,
    MemoryEventLog,
    MemoryReadModel,
    MemoryRecordConsumer,
)
from tests.unit.session.specification import history

pytestmark = pytest.mark.unit
KEY = (TENANT, SESSION)
LOG = history(
    *(opening(title="T"), turn("t1"), bound(), seen(*Wire().reply())),
    *(turn("t2", second=60), seen(Wire("two", second=60).prompt())),
)


# At rest: the first turn has ended and the second was not asked for yet.
REST = len(LOG) - 3


class ToldReadModel(MemoryReadModel):
    """Says when something was saved."""

    def __init__(self) -> None:
        super().__init__()
        self.saved = asyncio.Event()

    async def save(self, changes: Changes) -> None:
        await super().save(changes)
        self.saved.set()


class House:
    """A gateway's tables and history; its row is one of the build before states, wrong and at `reached`."""

    def __init__(self, reached: int, *, first: int = 1) -> None:
        self.model = ToldReadModel()
        self.archive = MemoryEventArchive({KEY: [entry(e) for e in LOG[first - 1 : reached]]})
        self.log = MemoryEventLog()
        self.refold = Refold(self.model, History(self.archive, self.log, Live(), self.model))
        view = SessionView(
            session_id=SESSION,
            tenant_id=TENANT,
            user_id="u1",
            title="T",
            status="running",
            open_turn="t0",
            created_at=LOG[0].at,
            last_seq=reached,
        )
        self.model.rows[KEY] = StoredSession(SessionPage(view=view))

    @property
    def view(self) -> SessionView:
        return self.model.rows[KEY].page.view

    async def project(self, *events: Event) -> None:
        records = [Record(EVENTS.name, 0, e.seq, b"s1", msgspec.json.encode(e), []) for e in events]
        feed = MemoryRecordConsumer([records])
        projector = Projector(feed, self.model, lambda _: True, behind=self.refold.behind)
        await projector.step()

    async def working(self) -> None:
        """Let it work until nothing is behind."""
        task = asyncio.create_task(self.refold.run())
        async with asyncio.timeout(5):
            while self.model.rows[KEY].behind:
                self.model.saved.clear()
                await self.model.saved.wait()
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


def entry(event: Event) -> Entry:
    return Entry(event.seq, event.type, event.at, msgspec.json.encode(event))


def shown(view: SessionView) -> tuple[str, str | None, int]:
    return view.status, view.open_turn, view.last_seq


async def test_a_row_from_before_is_found_and_mended_without_an_event() -> None:
    house = House(REST)
    await house.working()
    state = fold(LOG[:REST])
    assert shown(house.view) == ("idle", None, REST)
    assert house.view.usage == state.usage
    assert house.model.turns[*KEY, "t1"].view.status == "completed"


async def test_a_fold_that_ends_where_it_was_written_in_between_ends_well(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(refold, "CHUNK", REST)
    house = House(REST)
    await house.refold.fold(KEY)
    assert shown(house.view) == ("idle", None, REST)
    assert not house.model.rows[KEY].behind


async def test_an_event_moves_a_row_from_before_on_and_has_it_mended() -> None:
    house = House(REST)
    house.archive.entries[KEY] += [entry(LOG[REST])]
    await house.project(LOG[REST])
    assert shown(house.view) == ("running", "t0", REST + 1)
    await house.working()
    assert shown(house.view) == ("running", "t2", REST + 1)
    await house.project(*LOG[REST + 1 :])
    assert not house.model.rows[KEY].behind


async def test_missing_events_are_fetched_and_the_state_goes_on_from_where_it_was() -> None:
    house = House(len(LOG))
    house.model.rows.clear()
    await house.project(*LOG[:3])
    assert not house.model.rows[KEY].behind
    await house.project(LOG[-1])
    assert (house.view.last_seq, house.model.rows[KEY].folded) == (len(LOG), 3)
    await house.working()
    assert shown(house.view) == ("running", "t2", len(LOG))
    assert house.model.rows[KEY].page.view.usage == fold(LOG).usage


async def test_a_session_of_which_no_row_is_left_is_folded_at_its_next_event() -> None:
    house = House(len(LOG))
    house.model.rows.clear()
    await house.project(LOG[-1])
    await house.working()
    assert shown(house.view) == ("running", "t2", len(LOG))
    assert house.view.title == "T"


async def test_where_the_first_events_are_gone_the_rest_is_folded() -> None:
    house = House(REST, first=5)
    await house.working()
    assert shown(house.view) == ("idle", None, REST)
    assert (house.view.title, house.view.user_id) == ("T", "u1")
    await house.project(*LOG[REST:])
    assert shown(house.view) == ("running", "t2", len(LOG))


async def test_where_nothing_is_left_the_session_is_at_rest_until_it_goes_on() -> None:
    house = House(REST, first=len(LOG))
    await house.working()
    assert shown(house.view) == ("idle", None, REST)


async def test_without_the_archive_the_row_waits_as_it_is() -> None:
    house = House(len(LOG))
    house.archive.down = house.log.down = True
    with pytest.raises(Transient):
        await house.refold.fold(KEY)
    assert house.model.rows[KEY].behind
    house.archive.down = house.log.down = False
    await house.refold.fold(KEY)
    assert shown(house.view) == ("running", "t2", len(LOG))


async def test_an_erased_row_from_before_stays_erased() -> None:
    house = House(4)
    page = house.model.rows[KEY].page
    page = replace(page, erased_at=LOG[3].at, view=replace(page.view, status="erased", title=None))
    house.model.rows[KEY] = StoredSession(page)
    await house.working()
    assert (house.view.status, house.view.title, house.view.last_seq) == ("erased", None, 4)


async def test_an_erasure_is_not_waited_for() -> None:
    """Its history is being deleted: what is shown is gone at once, whatever is missing."""
    house = House(4)
    erasure = Event(
        tenant_id=TENANT,
        session_id=SESSION,
        user_id="u1",
        turn_id=None,
        seq=9,
        event_id="s1:9",
        type="session.erased",
        at=LOG[-1].at,
        data=msgspec.Raw(b'{"reason":"requested"}'),
    )
    await house.project(erasure)
    assert not house.model.rows[KEY].behind
    assert (house.view.status, house.view.title, house.view.last_seq) == ("erased", None, 9)


async def test_a_fold_goes_on_while_the_row_moves_and_ends_with_the_newest() -> None:
    house = House(REST)
    house.archive.entries[KEY] += [entry(e) for e in LOG[REST:]]
    load, left = house.model.load, list(LOG[REST:])

    async def then_more(*what: object) -> object:
        found = await load(*what)  # type: ignore[arg-type]
        if left:
            house.model.load = load  # type: ignore[method-assign]
            await house.project(left.pop(0))
            house.model.load = then_more  # type: ignore[method-assign, assignment]
        return found

    house.model.load = then_more  # type: ignore[method-assign, assignment]
    await house.refold.fold(KEY)
    assert shown(house.view) == ("running", "t2", len(LOG))
    assert not house.model.rows[KEY].behind
