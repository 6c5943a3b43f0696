"""The operator's database connections, over an engine of their own with a limit on every wait."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from sqlalchemy import update
from sqlalchemy.ext.asyncio import AsyncEngine, create_async_engine

from shared.tables.gateway import SESSIONS

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


async def unfold(url: str, tenant: str | None, session: str | None, *, keep: bool) -> int:
    """Take the state from rows of sessions (all, or those of a tenant or a session): the gateway folds them anew.

    What is erased has no history to be made of. Returns how many rows that are; without `keep` it is taken back.
    """
    statement = update(SESSIONS).values(state=None, folded=0)
    statement = statement.where(SESSIONS.c.last_seq > 0, SESSIONS.c.status != "erased")
    if tenant is not None:
        statement = statement.where(SESSIONS.c.tenant_id == tenant)
    if session is not None:
        statement = statement.where(SESSIONS.c.session_id == session)
    async with engine_on(url) as engine, engine.connect() as connection:
        count = (await connection.execute(statement)).rowcount
        await (connection.commit() if keep else connection.rollback())
    return int(count)
