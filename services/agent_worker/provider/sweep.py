"""Archives provider sessions that a crash left behind for good; listed now and then, by one worker.

An orphan costs nothing until somebody wonders what it is; so this is slow, asks in the background lane, and leaves
alone what it can't judge: a session that may be adopted yet, and one whose mark names no session of ours.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from datetime import datetime, timedelta

import msgspec
from anthropic import AsyncAnthropic
from msgspec import Struct

from services.agent_worker.governor import governor
from services.agent_worker.governor.supply import BACKGROUND
from services.agent_worker.ports import Bindings, Bound, Marked, MarkedSessions, ProviderFailure
from services.agent_worker.provider.failures import WIRE_ERRORS, failure
from services.agent_worker.provider.opening import close_session
from services.agent_worker.provider.stream import sessions_since
from shared import logs, metrics
from shared.clock import Clock
from shared.errors import Transient
from shared.moment import parse
from shared.orphans import MARK, is_orphan, owner

# How far the first look of a process goes back; those after it go on where the one before ended.
FIRST_LOOK = timedelta(days=7)
log = logs.get(__name__)


class Sweeper:
    """Sweeps every `seconds`, what is older than `age`, until cancelled; `seconds` of 0: never."""

    def __init__(
        self,
        sessions: MarkedSessions,
        bindings: Bindings,
        *,
        seconds: float,
        age: float,
        clock: Clock,
        chance: Callable[[], float],
    ) -> None:
        self._sessions = sessions
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
        """Look once; returns how many were archived. Raises ProviderFailure or Transient; the next look misses
        nothing for it."""
        now = self._clock()
        archived, undecided = 0, now - self._age
        async for page in self._sessions.marked(self._since or now - FIRST_LOOK):
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
        """Archive one; returns False when the provider refuses, which does not stop the sweep of the others."""
        tenant, session = marked.key
        try:
            await self._sessions.archive(marked.id, erase=erase)
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


class _Session(Struct, frozen=True):
    id: str
    created_at: str = ""
    status: str = ""
    archived_at: str | None = None
    metadata: dict[str, str] = {}


_session = msgspec.json.Decoder(_Session)


class ProviderMarkedSessions:
    """See MarkedSessions."""

    def __init__(self, client: AsyncAnthropic) -> None:
        self._client = client

    async def marked(self, since: datetime) -> AsyncIterator[list[Marked]]:
        """See MarkedSessions.marked."""
        pages = sessions_since(self._client, since)
        while True:
            try:
                with governor.in_lane(BACKGROUND):
                    page = await anext(pages)
            except StopAsyncIteration:
                return
            except WIRE_ERRORS as error:
                raise failure(error) from error
            yield [marked for raw in page if (marked := _marked(raw)) is not None]

    async def archive(self, provider_session_id: str, *, erase: bool) -> None:
        """See MarkedSessions.archive."""
        with governor.in_lane(BACKGROUND):
            await close_session(self._client, provider_session_id, erase=erase)


def _marked(raw: bytes) -> Marked | None:
    session = _session.decode(raw)
    key = owner(session.metadata.get(MARK, ""))
    if key is None or session.archived_at is not None or session.status == "terminated":
        return None
    return Marked(session.id, key, session.created_at)
