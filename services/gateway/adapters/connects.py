"""Connect links on PostgreSQL or SQLite, over the read model's engine."""

from __future__ import annotations

import msgspec
from sqlalchemy import delete, insert, update
from sqlalchemy.ext.asyncio import AsyncEngine
from sqlmodel import select

from services.gateway.adapters.sql import bounded
from services.gateway.connect.records import LinkRecord, Status
from shared.tables.connects import CONNECTS

_COLUMNS = CONNECTS.c


class SqlLinks:
    """The LinkStore port. Each call is one statement of at most five seconds, committed when it returns; of updates
    at once the second finds the row as the first left it. Raises Transient (`database_unavailable`)."""

    def __init__(self, engine: AsyncEngine) -> None:
        self._engine = engine

    async def add(self, record: LinkRecord) -> None:
        """See LinkStore.add."""
        async with bounded(), self._engine.begin() as connection:
            await connection.execute(insert(CONNECTS).values(**msgspec.structs.asdict(record)))

    async def record(self, id: str) -> LinkRecord | None:
        """See LinkStore.record."""
        query = select(*_COLUMNS).where(_COLUMNS.id == id)
        async with bounded(), self._engine.connect() as connection:
            found = (await connection.execute(query)).mappings().first()
        return LinkRecord(**found) if found else None

    async def begin(self, id: str, browser: str) -> bool:
        """See LinkStore.begin."""
        note = update(CONNECTS).where(
            _COLUMNS.id == id, _COLUMNS.status == "open", _COLUMNS.browser.in_(("", browser))
        )
        async with bounded(), self._engine.begin() as connection:
            return (await connection.execute(note.values(browser=browser))).rowcount == 1

    async def move(self, id: str, browser: str, before: Status, after: Status) -> bool:
        """See LinkStore.move."""
        note = update(CONNECTS).where(
            _COLUMNS.id == id, _COLUMNS.status == before, _COLUMNS.browser == browser
        )
        news = {"status": after, **({"sealed": ""} if after == "done" else {})}
        async with bounded(), self._engine.begin() as connection:
            return (await connection.execute(note.values(**news))).rowcount == 1

    async def sweep(self, before: float) -> int:
        """See LinkStore.sweep."""
        old = delete(CONNECTS).where(_COLUMNS.expires_at < before)
        async with bounded(), self._engine.begin() as connection:
            return (await connection.execute(old)).rowcount
