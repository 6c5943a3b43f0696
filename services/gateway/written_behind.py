"""Writes accepted sessions and turns to the read model in batches, without an SQL round trip per request.

They are collected here and inserted in batches, a few milliseconds later. Nothing depends on it being
safe: the projector reads the same facts from the log, only somewhat later.
"""

from __future__ import annotations

import asyncio
from itertools import islice

from services.gateway.ports import ReadModel, SessionKey, TurnKey
from services.gateway.register import Bounded
from services.gateway.views import SessionPage, TurnView
from shared import logs, metrics
from shared.errors import Transient

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
        wait = GATHER_SECONDS
        while True:
            await self._some.wait()
            await asyncio.sleep(wait)
            try:
                await self._write()
                wait = GATHER_SECONDS
            except Transient as error:
                wait = min(max(wait, 0.1) * 2, 5.0)
                _log.warning("rows wait for the database", reason=error.reason, detail=str(error))

    async def flush(self, timeout: float) -> None:
        """Write what is left, for `timeout` seconds at most."""
        try:
            async with asyncio.timeout(timeout):
                while self._sessions or self._turns:
                    await self._write()
        except (Transient, TimeoutError):
            _log.warning("rows left to the projector", rows=len(self._sessions) + len(self._turns))

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
