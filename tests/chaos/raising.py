"""The operator of a run: sets caps before it, raises the small ones during it, and looks how they were kept."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence

from sqlalchemy.exc import SQLAlchemyError

from services.agent_worker.adapters.caps import SETTLED_SECONDS
from services.operator.costs.cap_rows import KEY, put
from services.operator.database import engine_on
from shared.clock import utcnow
from shared.moment import rfc3339
from shared.session.caps import Cap
from shared.tables.caps import spent_in_ledger
from tests.chaos.money import Looked
from tests.chaos.speakers import generous, small

RAISE_EVERY_S = 15.0
_AWAY = (SQLAlchemyError, OSError, TimeoutError)


class Operator:
    """Caps of one stack. `looked`: what was spent under a small cap right before each raise. `all_capped`: a
    generous cap holds for every session, so that none is steered: what steers under a cap waits."""

    def __init__(self, url: str, note: Callable[[str], None], *, all_capped: bool) -> None:
        self.looked: list[Looked] = []
        self.caps: list[Cap] = []
        self._url = url
        self._note = note
        self._all_capped = all_capped

    async def begin(self) -> None:
        """Set all caps, and return when every worker has read them. Raises what SQLAlchemy raises."""
        await self._set([*(generous() if self._all_capped else ()), *small(0)])
        await asyncio.sleep(
            SETTLED_SECONDS
        )  # what docs/money.md promises; turns before that are not held

    async def run(self) -> None:
        """Raise the small caps for ever, until cancelled. While the database is away they stand."""
        step = 0
        while True:
            await asyncio.sleep(RAISE_EVERY_S)
            step += await self._raise(step + 1)

    async def _raise(self, step: int) -> bool:
        try:
            looked = [await self._look(cap) for cap in small(step - 1)]
            await self._set(small(step))
        except _AWAY:
            return False
        self.looked += looked
        self._note(
            f"small caps raised, {', '.join(f'{one.spent:,} of {one.cap.limit:,}' for one in looked)}"
        )
        return True

    async def _look(self, cap: Cap) -> Looked:
        month = rfc3339(utcnow())[:7] if cap.period == "month" else "all"
        query = spent_in_ledger(cap.tenant_id, cap.scope, cap.who, month)
        async with engine_on(self._url) as engine, engine.connect() as connection:
            return Looked(cap, month, int((await connection.execute(query)).scalar_one()))

    async def _set(self, caps: Sequence[Cap]) -> None:
        for cap in caps:
            await put(self._url, {name: getattr(cap, name) for name in KEY}, cap.limit)
            same = [old for old in self.caps if _key(old) == _key(cap)]
            self.caps = [cap, *(old for old in self.caps if old not in same)]


def _key(cap: Cap) -> tuple[str, ...]:
    return tuple(getattr(cap, name) for name in KEY)
