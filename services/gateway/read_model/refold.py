"""Folds sessions from their history: as they were at a seq, and anew where a row lacks its state.

A row that an older build wrote has no state, and one that misses events (the log's retention passed them, its row
was dropped) has an old one. The projector shows of such a session that it goes on and tells this room; what is left
over from before is found by looking, at start and again later. Where events are gone for good the rest is folded.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterable

from msgspec.structs import replace

from services.gateway.ports import Entry, ReadModel, StoredSession
from services.gateway.read_model.project import UNUSABLE, Projection
from services.gateway.streams.history import History, Hole
from services.gateway.views import SessionView, session_view
from shared import logs
from shared.errors import Rejected, Transient
from shared.session.events import read_event
from shared.session.evolve import evolve
from shared.session.key import SessionKey
from shared.session.state import initial


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


# Sessions that wait; beyond it they are found by the next look.
MAX_WAITING = 10_000
PAGE = 100
LOOK_SECONDS = 600.0
# After something could not be read or written.
WAIT_SECONDS = 10.0
# So many events are folded between writes, so that the turns of a long session are never all in memory.
CHUNK = 5_000
# Folding is work for the processor: after so many events others get their turn.
BREATH = 50
_log = logs.get("gateway.refold")


class Refold:
    """`behind` at any time; `run` until cancelled."""

    def __init__(self, read_model: ReadModel, history: History) -> None:
        self._read_model = read_model
        self._history = history
        self._waiting: dict[SessionKey, None] = {}
        self._some = asyncio.Event()

    def behind(self, keys: Iterable[SessionKey]) -> None:
        """Fold these soon."""
        for key in keys:
            if len(self._waiting) < MAX_WAITING:
                self._waiting[key] = None
                self._some.set()

    async def run(self) -> None:
        """Fold for ever what is behind."""
        looking = asyncio.create_task(self._look_for_ever(), name="refold-look")
        try:
            while True:
                await self._some.wait()
                await self._work_off()
        finally:
            looking.cancel()

    async def _work_off(self) -> None:
        # A loop of its own (see shared.retry): another session is tried next.
        while self._waiting:
            key = next(iter(self._waiting))
            try:
                await self.fold(key)
            except Transient as error:
                _log.warning("session_not_folded", session_id=key[1], reason=error.reason)
                await asyncio.sleep(WAIT_SECONDS)
                self._waiting[key] = self._waiting.pop(
                    key, None
                )  # last, so that others get their turn
            else:
                self._waiting.pop(key, None)
        self._some.clear()

    async def _look_for_ever(self) -> None:
        while True:
            try:
                await self.look()
            except Transient as error:
                _log.warning("rows_not_read", reason=error.reason)
                await asyncio.sleep(WAIT_SECONDS)
            else:
                await asyncio.sleep(LOOK_SECONDS)

    async def look(self) -> None:
        """Find the rows that are behind and that no event reported. Raises Transient."""
        after: SessionKey = ("", "")
        while found := await self._read_model.behind(after, PAGE):
            self.behind(found)
            after = found[-1]

    async def fold(self, key: SessionKey) -> None:
        """Give the row a state that knows all its events. Raises Transient: then nothing of it is kept."""
        known: StoredSession | None = None
        while True:
            stored = (await self._read_model.load([key])).get(key)
            if stored is None or not stored.behind:
                return
            if known is not None:  # the row moved on meanwhile
                page = replace(stored.page, settled=known.page.settled)
                stored = StoredSession(page, known.state)
            elif stored.state is None:
                stored = StoredSession(replace(stored.page, settled=()))
            known = await self._caught_up(key, stored)

    async def _caught_up(self, key: SessionKey, stored: StoredSession) -> StoredSession:
        """The row with a state that knows the events that its page does, written unless it moved on."""
        until = stored.page.view.last_seq
        if stored.page.erased_at is not None:
            return await self._through(key, stored, _nothing(), torn=True)
        try:
            entries = self._history.read(key, stored.folded, until)
            return await self._through(key, stored, entries, torn=False)
        except Hole as hole:
            if not hole.gone:
                raise
            _log.warning("events_gone", session_id=key[1], detail=str(hole))
        left = self._history.left(key, stored.folded, until)
        return await self._through(key, stored, left, torn=True)

    async def _through(
        self,
        key: SessionKey,
        stored: StoredSession,
        entries: AsyncIterator[Entry],
        *,
        torn: bool,
    ) -> StoredSession:
        until, count = stored.page.view.last_seq, 0
        view = replace(stored.page.view, last_seq=stored.folded)
        stored = StoredSession(replace(stored.page, view=view), stored.state)
        projection = Projection({key: stored}, torn=torn)
        async for entry in entries:
            _apply(projection, entry)
            count += 1
            if count % BREATH == 0:
                await asyncio.sleep(0)
            if count % CHUNK == 0:
                stored = await self._written(projection, key, stored)
                projection = Projection({key: stored}, torn=torn)
        projection.reach(key, until)
        return await self._written(projection, key, stored)

    async def _written(
        self, projection: Projection, key: SessionKey, stored: StoredSession
    ) -> StoredSession:
        """The row as it is written; as it was, where the projection changes nothing of it."""
        changes = projection.finish()
        await self._read_model.save(changes)
        return changes.sessions.get(key, stored)


def _apply(projection: Projection, entry: Entry) -> None:
    try:
        projection.event(read_event(entry.value))
    except UNUSABLE as error:
        _log.error("event_not_applied", seq=entry.seq, error=str(error))


async def _nothing() -> AsyncIterator[Entry]:
    return
    yield
