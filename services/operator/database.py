"""The operator's database connections, over an engine of their own with a limit on every wait."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncEngine, create_async_engine

TIMEOUT_S = 30.0


@asynccontextmanager
async def engine_on(url: str) -> AsyncIterator[AsyncEngine]:
    """An engine on the database at `url`, disposed of at the end; its errors leave out statements' parameters."""
    timeouts: dict[str, float] = {"timeout": TIMEOUT_S}
    if not url.startswith("sqlite"):
        timeouts["command_timeout"] = TIMEOUT_S
    engine = create_async_engine(url, hide_parameters=True, connect_args=timeouts)
    try:
        yield engine
    finally:
        await engine.dispose()


async def changed(url: str, statement: str, values: dict[str, str | None], *, keep: bool) -> int:
    """How many rows `statement` changes in the database at `url`; without `keep` it is taken back."""
    async with engine_on(url) as engine, engine.connect() as connection:
        count = (await connection.execute(text(statement), values)).rowcount
        await (connection.commit() if keep else connection.rollback())
    return int(count)
