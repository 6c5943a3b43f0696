"""What this gateway keeps in memory: the sessions it met and the turns it accepted, bounded; and the queue that
writes them to the read model in batches.

Everything here is also in the read model or on its way there; losing it costs one SQL read each.
"""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from itertools import islice
from typing import Generic, TypeVar

from services.gateway.ports import ReadModel, TurnKey
from services.gateway.views import Closing, SessionPage, TurnView
from shared import logs, metrics
from shared.errors import Transient
from shared.session.key import SessionKey

_K = TypeVar("_K")
_V = TypeVar("_V")

# About 400 bytes each: 40 MB when full, and a gateway that meets more sessions asks SQL again.
MAX_KNOWN = 100_000


class Bounded(Generic[_K, _V]):
    """A map of the `size` newest entries; the oldest goes when one more comes."""

    def __init__(self, size: int) -> None:
        self._size = size
        self._items: dict[_K, _V] = {}

    def get(self, key: _K) -> _V | None:
        return self._items.get(key)

    def put(self, key: _K, value: _V) -> None:
        items = self._items
        items.pop(key, None)
        items[key] = value
        if len(items) > self._size:
            del items[next(iter(items))]

    def pop(self, key: _K) -> None:
        self._items.pop(key, None)

    def __len__(self) -> int:
        return len(self._items)


@dataclass(frozen=True, slots=True)
class Known:
    """What accepting a turn needs to know of its session. `closed` says why no turn is taken."""

    user_id: str
    agent: str | None = None
    mode: str = "interactive"
    closed: Closing | None = None


def known(page: SessionPage) -> Known:
    """The part of a session's row that accepting turns needs."""
    view = page.view
    closed: Closing | None = page.closing
    if view.status == "archived":
        closed = closed or "archive"
    elif view.status == "erased":
        closed = "erase"
    return Known(user_id=view.user_id, agent=view.agent, mode=view.mode, closed=closed)


class Register:
    """Sessions and accepted turns of this process. Not safe for threads: one event loop owns it."""

    def __init__(self, size: int = MAX_KNOWN) -> None:
        self._sessions: Bounded[SessionKey, Known] = Bounded(size)
        self._turns: Bounded[TurnKey, TurnView] = Bounded(size)

    def session(self, key: SessionKey) -> Known | None:
        return self._sessions.get(key)

    def meet(self, key: SessionKey, session: Known) -> None:
        self._sessions.put(key, session)

    def close(self, key: SessionKey, why: Closing) -> None:
        """No more turns from now on; a session not known here is read with its mark later."""
        session = self._sessions.get(key)
        if session is not None and session.closed != "erase":
            closed = Known(session.user_id, session.agent, session.mode, why)
            self._sessions.put(key, closed)

    def turn(self, key: TurnKey) -> TurnView | None:
        return self._turns.get(key)

    def accept(self, key: TurnKey, turn: TurnView) -> None:
        self._turns.put(key, turn)

    def hear(self, key: SessionKey, event_type: str) -> None:
        """Take note of a recorded event that closed a session, whichever gateway was asked for it."""
        if event_type == "session.archived":
            self.close(key, "archive")
        elif event_type == "session.erased":
            self.close(key, "erase")


MAX_PENDING = 50_000
BATCH = 500
# A batch fills for this long: far below the 2 s in which another gateway must answer, far above
# the time of one insert.
GATHER_SECONDS = 0.02
_log = logs.get("gateway.written_behind")


class WrittenBehind:
    """Rows on their way. `run` until cancelled, then `flush` once."""

    def __init__(self, read_model: ReadModel) -> None:
        self._read_model = read_model
        self._sessions: dict[SessionKey, SessionPage] = {}
        self._turns: dict[TurnKey, TurnView] = {}
        self._written: Bounded[SessionKey | TurnKey, bool] = Bounded(MAX_PENDING)
        self._some = asyncio.Event()

    def wrote(self, key: SessionKey | TurnKey) -> bool:
        """Whether this process put the session or turn into the read model, not long ago."""
        return self._written.get(key) is not None

    def note(self, key: SessionKey | TurnKey) -> None:
        """The session or turn is in the read model."""
        self._written.put(key, True)

    def session(self, key: SessionKey, page: SessionPage) -> None:
        """Insert this session unless it exists."""
        self._sessions.setdefault(key, page)
        self._some.set()

    def turn(self, key: TurnKey, view: TurnView) -> None:
        """Insert this turn unless it exists. When too many wait, the oldest is left to the projector."""
        if len(self._turns) >= MAX_PENDING:
            del self._turns[next(iter(self._turns))]
        self._turns[key] = view
        if not self._some.is_set():
            self._some.set()

    async def run(self) -> None:
        """Write for ever; a database that does not answer is asked again with growing waits."""
        # A loop of its own (see shared.retry): its wait also gathers what comes meanwhile.
        wait = GATHER_SECONDS
        while True:
            await self._some.wait()
            await asyncio.sleep(wait)
            try:
                await self._write()
                wait = GATHER_SECONDS
            except Transient as error:
                wait = min(max(wait, 0.1) * 2, 5.0)
                _log.warning("rows_wait_for_database", reason=error.reason, detail=str(error))

    async def flush(self, timeout: float) -> None:
        """Write what is left, for `timeout` seconds at most."""
        try:
            async with asyncio.timeout(timeout):
                while self._sessions or self._turns:
                    await self._write()
        except (Transient, TimeoutError):
            _log.warning("rows_left_to_projector", rows=len(self._sessions) + len(self._turns))

    async def _write(self) -> None:
        sessions = dict(islice(self._sessions.items(), BATCH))
        turns = dict(islice(self._turns.items(), BATCH))
        await self._read_model.add(sessions, turns)
        for session in sessions:
            self._sessions.pop(session, None)
            self.note(session)
        for turn in turns:
            self._turns.pop(turn, None)
            self.note(turn)
        left = len(self._sessions) + len(self._turns)
        metrics.set_gauge("turnstile_pending_writes", left)
        if not left:
            self._some.clear()
