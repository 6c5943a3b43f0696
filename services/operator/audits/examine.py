"""Examines one session: all its evidence is read, then compared; what is found is looked at once more.

The session goes on meanwhile: what was under way at the first look is recorded at the second.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from datetime import datetime

from services.operator.archive import ArchiveReader
from services.operator.audits import archived
from services.operator.audits.compare import Comparison, Patience
from services.operator.audits.evidence import Asked, Head, ProviderLog, Row
from services.operator.audits.finding import Finding
from services.operator.audits.inbox import Inbox
from services.operator.audits.provider import Provider
from shared.clock import Clock
from shared.session.key import SessionKey


@dataclass(frozen=True, slots=True)
class Examined:
    """The result for one session. `listed` counts the provider's events, `rows` those of the archive, `turns` the
    turns with a beginning."""

    key: SessionKey
    findings: tuple[Finding, ...] = ()
    listed: int = 0
    rows: int = 0
    turns: int = 0


class Examiner:
    """Looks at sessions. `patience` makes the patience for a moment; `again` seconds pass before a second look."""

    def __init__(
        self,
        archive: ArchiveReader,
        inbox: Inbox,
        provider: Provider | None,
        *,
        clock: Clock,
        patience: Callable[[datetime], Patience],
        again: float,
    ) -> None:
        self._archive = archive
        self._inbox = inbox
        self._provider = provider
        self._clock = clock
        self._patience = patience
        self._again = again

    async def examine(self, key: SessionKey) -> Examined:
        """Compare all there is of a session. Raises what archive, inbox or provider raise."""
        seen = await self._look(key)
        if seen.findings:
            await asyncio.sleep(self._again)
            seen = await self._look(key)
        return seen

    async def _look(self, key: SessionKey) -> Examined:
        tenant, session = key
        # First what leads, last what follows: the archive may know more than was asked of it, never less.
        head = await self._head(key)
        asked = await self._inbox.asked(tenant, session)
        counted = _steady(head, await self._head(key), asked)
        if head.status == "erased":
            return Examined(key)
        known = [head.provider_session_id]
        known += (row.provider_session_id for row in await self._rows(key))
        logs = [await self._log(name) for name in dict.fromkeys(filter(None, known))]
        rows = await self._rows(key)
        bodies = await asyncio.to_thread(archived.bodies, self._archive, tenant, session)
        held = [log for log in logs if log is not None]
        patience = self._patience(self._clock())
        comparison = Comparison(counted, rows, bodies, held, asked, patience)
        return Examined(
            key=key,
            findings=tuple(comparison.findings()),
            listed=sum(len(events) for log in held for events in log.threads.values()),
            rows=len(rows),
            turns=len({row.turn_id for row in rows if row.turn_id}),
        )

    async def _head(self, key: SessionKey) -> Head:
        """The session's row; one that says nothing where there is none."""
        found = await self._inbox.head(*key)
        return found or Head(*key, last_seq=0, status="", filed=0, taken=0, position=0)

    async def _log(self, name: str) -> ProviderLog | None:
        return await self._provider.log(name) if self._provider is not None else None

    async def _rows(self, key: SessionKey) -> list[Row]:
        return await asyncio.to_thread(archived.rows, self._archive, *key)


def _steady(before: Head, after: Head, asked: Sequence[Asked]) -> Head:
    """The row as it was before the inbox was read; its counts are taken to be right where they moved meanwhile."""
    if (before.filed, before.taken) == (after.filed, after.taken):
        return before
    taken = sum(one.position <= before.position for one in asked)
    return replace(before, filed=len(asked), taken=taken)
