"""The leases of this process's sessions, kept apart from the work they allow.

A worker full of work is late and still works; its leases would run out all the same, and every session it drives
would be taken up once more on top of the load. So a thread of its own extends them, for as long as the worker's
loop runs now and then.
"""

from __future__ import annotations

import asyncio
import math
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from typing import NamedTuple

from services.agent_worker.ports import LeaseStore
from shared import logs
from shared.errors import Transient
from shared.grouped import Grouped
from shared.session.key import SessionKey

_lasts: ContextVar[Callable[[], bool] | None] = ContextVar("turnstile_lease", default=None)


@contextmanager
def under_lease(lasts: Callable[[], bool]) -> Iterator[None]:
    """Requests of this task, and of tasks it starts, are made only while `lasts` returns True."""
    before = _lasts.set(lasts)
    try:
        yield
    finally:
        _lasts.reset(before)


def may_go() -> bool:
    """Whether the lease that this task works under still lasts; True for work that needs none."""
    lasts = _lasts.get()
    return lasts is None or lasts()


# A loop that gave no sign for this many seconds hangs: others shall take its sessions up.
HANGS_SECONDS = 30.0
log = logs.get(__name__)


class Kept(NamedTuple):
    """The outcome of one extension, asked for `at` by the monotonic clock: epochs of the sessions still ours."""

    at: float
    mine: Mapping[SessionKey, int]


class Leases:
    """The leases of `owner`. `run` may have a thread of its own; all else belongs to the loop that drives."""

    def __init__(self, owner: str, seconds: float, monotonic: Callable[[], float]) -> None:
        self.owner = owner
        self.seconds = seconds
        self.monotonic = monotonic
        self.kept = Kept(-math.inf, {})  # replaced as a whole: safe to read from any thread
        self._replacing = threading.Lock()
        self._alive_at = monotonic()
        self._again = Grouped(self._extend_for)

    async def run(self, store: LeaseStore) -> None:
        """Extend three times in a lease until cancelled. What was answered late is followed by the next at once: it
        counts from when it was asked for."""
        due = self.monotonic() + self.seconds / 3
        while True:
            await asyncio.sleep(max(0.0, due - self.monotonic()))
            due = self.monotonic() + self.seconds / 3
            if self.monotonic() - self._alive_at > HANGS_SECONDS:
                log.error("leases_not_extended", reason="the event loop hangs")
                continue
            try:
                await self.extend(store)
            except Transient as error:
                log.warning("leases_not_extended", reason=error.reason)

    async def extend(self, store: LeaseStore) -> None:
        """Extend once. Of two at the same time the one that was asked for later says what is kept."""
        at = self.monotonic()
        mine = await store.extend(self.owner, self.seconds)
        with self._replacing:
            if at >= self.kept.at:
                self.kept = Kept(at, mine)

    async def _extend_for(self, stores: Sequence[LeaseStore]) -> list[None]:
        await self.extend(stores[0])
        return [None] * len(stores)

    async def regain(
        self, store: LeaseStore, key: SessionKey, epoch: int, claimed_at: float
    ) -> None:
        """Ask once more, with whoever else does, if the lease no longer lasts by our clock: when the database stood
        still it is mostly ours all the same. Raises Transient when the database is away."""
        if not self.lasts(key, epoch, claimed_at):
            await self._again(store)

    def alive(self) -> None:
        """The loop that drives is running."""
        self._alive_at = self.monotonic()

    def lasts(self, key: SessionKey, epoch: int, claimed_at: float) -> bool:
        """Whether the session that was claimed then, in that epoch, is still ours at this moment."""
        kept = self.kept
        since = max(claimed_at, kept.at) if kept.mine.get(key) == epoch else claimed_at
        return self.monotonic() < since + self.seconds
