"""Archives provider sessions that a crash left behind for good; listed now and then, by one worker.

An orphan costs nothing until somebody wonders what it is; so this is slow, asks in the background lane, and leaves
alone what it can't judge: a session that may be adopted yet, and one whose mark names no session of ours.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Collection, Mapping
from contextlib import AbstractAsyncContextManager
from datetime import datetime, timedelta
from typing import Protocol

from msgspec import Struct

from services.agent_worker.ports import Key, ProviderFailure
from shared import logs, metrics
from shared.clock import Clock
from shared.errors import Transient
from shared.moment import parse
from shared.orphans import is_orphan

# How far the first look of a process goes back; those after it go on where the one before ended.
FIRST_LOOK = timedelta(days=7)
log = logs.get(__name__)


class Marked(Struct, frozen=True):
    """A living provider session that carries the mark of a session; `created_at` is RFC 3339."""

    id: str
    key: Key
    created_at: str


class Bound(Struct, frozen=True):
    """What a head row says: the provider session it is bound to ("": none), whether a turn is open, and whether
    the session was erased."""

    to: str
    working: bool
    erased: bool = False


class Leftovers(Protocol):
    """The provider, as far as the sweep needs it. Raises ProviderFailure."""

    def marked(self, since: datetime) -> AsyncIterator[list[Marked]]:
        """Pages of what was made since then, newest first."""
        ...

    async def archive(self, provider_session_id: str, *, erase: bool) -> None:
        """Archive a session, and delete it when `erase`; one that is gone counts as archived. Raises
        ProviderFailure, a `final` one when this session can't be archived as it is now (it runs)."""
        ...


class Bindings(Protocol):
    """The head rows, as far as the sweep needs them. Raises Transient."""

    async def of(self, keys: Collection[Key]) -> Mapping[Key, Bound]:
        """What the rows of these sessions say; those without a row are left out."""
        ...

    def alone(self) -> AbstractAsyncContextManager[bool]:
        """Whether this worker is the only one that sweeps until the context ends."""
        ...


class Sweeper:
    """Sweeps every `seconds`, what is older than `age`, until cancelled; `seconds` of 0: never."""

    def __init__(
        self,
        leftovers: Leftovers,
        bindings: Bindings,
        *,
        seconds: float,
        age: float,
        clock: Clock,
        chance: Callable[[], float],
    ) -> None:
        self._leftovers = leftovers
        self._bindings = bindings
        self._seconds = seconds
        self._age = timedelta(seconds=age)
        self._clock = clock
        self._chance = chance
        self._since: datetime | None = None

    async def run(self) -> None:
        """Sweep for ever. What goes wrong waits for the next time."""
        if not self._seconds:
            await asyncio.get_running_loop().create_future()
        while True:
            # Workers that were started together shall not ask together.
            await asyncio.sleep(self._seconds * (0.5 + self._chance() / 2))
            try:
                async with self._bindings.alone() as alone:
                    if alone:
                        await self.sweep()
            except (Transient, ProviderFailure) as error:
                log.warning("orphans_not_swept", reason=error.reason)

    async def sweep(self) -> int:
        """Look once; answers how many were archived. Raises ProviderFailure or Transient; the next look misses
        nothing for it."""
        now = self._clock()
        archived, undecided = 0, now - self._age
        async for page in self._leftovers.marked(self._since or now - FIRST_LOOK):
            # Read after the page: what was made before it and journaled by now is bound.
            bound = await self._bindings.of({marked.key for marked in page})
            for marked in page:
                orphan = self._is_orphan(marked, bound.get(marked.key), now)
                if orphan and await self._archive(marked, erase=bound[marked.key].erased):
                    archived += 1
                elif marked.key in bound and bound[marked.key].to != marked.id:
                    undecided = min(undecided, _moment(marked.created_at, now))
        self._since = undecided
        return archived

    def _is_orphan(self, marked: Marked, bound: Bound | None, now: datetime) -> bool:
        return bound is not None and is_orphan(
            marked.id,
            created_at=marked.created_at,
            bound_to=bound.to,
            working=bound.working,
            now=now,
            at_least=self._age,
        )

    async def _archive(self, marked: Marked, *, erase: bool) -> bool:
        """Archive one; answers False when the provider does not let it be: that keeps nobody from the others."""
        tenant, session = marked.key
        try:
            await self._leftovers.archive(marked.id, erase=erase)
        except ProviderFailure as refused:
            if not refused.final:
                raise
            log.warning(
                "orphan_not_archived",
                tenant_id=tenant,
                session_id=session,
                provider_session_id=marked.id,
                reason=refused.reason,
                detail=refused.detail,
            )
            return False
        metrics.inc("turnstile_orphans_archived_total")
        log.warning(
            "orphan_archived",
            tenant_id=tenant,
            session_id=session,
            provider_session_id=marked.id,
            created_at=marked.created_at,
        )
        return True


def _moment(text: str, otherwise: datetime) -> datetime:
    try:
        return parse(text)
    except ValueError:
        return otherwise
