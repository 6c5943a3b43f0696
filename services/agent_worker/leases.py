"""The leases of this process's sessions, kept apart from the work they allow.

A worker full of work is late and still works; its leases would run out all the same, and every session it drives
would be taken up once more on top of the load. So a thread of its own extends them, for as long as the worker's
loop runs now and then.
"""

from __future__ import annotations

import asyncio
import math
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import NamedTuple

from services.agent_worker.ports import LeaseStore
from shared import logs
from shared.errors import Transient
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
    """The outcome of one extension, which was asked for `at`, by the worker's monotonic clock."""

    at: float
    mine: frozenset[SessionKey]


class Leases:
    """The leases of `owner`. `run` may have a thread of its own; all else belongs to the loop that drives."""

    def __init__(self, owner: str, seconds: float, monotonic: Callable[[], float]) -> None:
        self.owner = owner
        self.seconds = seconds
        self.monotonic = monotonic
        self.kept = Kept(
            -math.inf, frozenset()
        )  # replaced as a whole: safe to read from any thread
        self._alive_at = monotonic()

    async def run(self, store: LeaseStore) -> None:
        """Extend three times in a lease until cancelled."""
        while True:
            await asyncio.sleep(self.seconds / 3)
            if self.monotonic() - self._alive_at > HANGS_SECONDS:
                log.error("leases_not_extended", reason="the event loop hangs")
                continue
            try:
                await self.extend(store)
            except Transient as error:
                log.warning("leases_not_extended", reason=error.reason)

    async def extend(self, store: LeaseStore) -> None:
        """Extend once."""
        at = self.monotonic()
        self.kept = Kept(at, frozenset(await store.extend(self.owner, self.seconds)))

    def alive(self) -> None:
        """The loop that drives is running."""
        self._alive_at = self.monotonic()

    def lasts(self, key: SessionKey, claimed_at: float) -> bool:
        """Whether the session that was claimed then is still ours at this moment."""
        kept = self.kept
        since = max(claimed_at, kept.at) if key in kept.mine else claimed_at
        return self.monotonic() < since + self.seconds
