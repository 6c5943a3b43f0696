"""The account of what all workers ask of the provider, in one row a limit.

The row is read, what becomes of it is computed by the same function as in memory, and it is written where nobody
else has written it meanwhile. A worker does this a few times a second, so two seldom meet; who comes second tries
again. Time is the database's: workers whose clocks differ share one account all the same.
"""

from __future__ import annotations

import random
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from functools import partial

import msgspec
from sqlalchemy import BigInteger, Executable, literal, select, update
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.ext.asyncio import AsyncEngine

from services.agent_worker.adapters.engine import make_engine
from services.agent_worker.adapters.sql import connection_to, given, values
from services.agent_worker.governor import supply
from services.agent_worker.governor.governor import Governor
from services.agent_worker.governor.supply import Plan
from services.agent_worker.ports import Grant
from shared import logs
from shared.errors import Transient
from shared.tables.clock import Now
from shared.tables.worker import ACCOUNTS

TRIES = 10
NAME, LEVEL = given("name", ACCOUNTS.c.name.type), given("level", ACCOUNTS.c.level.type)
_always = select(literal(1)).subquery("always")
READ = select(Now().label("now"), ACCOUNTS.c.version, ACCOUNTS.c.level).select_from(
    _always.outerjoin(ACCOUNTS, ACCOUNTS.c.name == NAME)
)
WRITE = (
    update(ACCOUNTS)
    .values(level=LEVEL, version=ACCOUNTS.c.version + 1)
    .where(ACCOUNTS.c.name == NAME, ACCOUNTS.c.version == given("version", BigInteger()))
)
log = logs.get(__name__)
_level = msgspec.json.Decoder(supply.Level)


class SqlTokens:
    """The Tokens port for one plan, on an engine that the caller made and disposes of."""

    def __init__(self, engine: AsyncEngine, plan: Plan) -> None:
        self._engine = engine.execution_options(isolation_level="AUTOCOMMIT")
        self._plan = plan
        self._make = _make(engine.dialect.name)

    async def take(self, asks: Mapping[str, int], pauses: Mapping[str, float]) -> Grant:
        """See Tokens.take."""
        async with connection_to(self._engine) as connection:
            for _ in range(TRIES):
                name = {"name": self._plan.name}
                row = (await connection.execute(READ, values(name))).one()
                before = _level.decode(row.level) if row.level else supply.full(self._plan, row.now)
                after, grant = supply.take(before, self._plan, row.now, asks, pauses)
                if row.level and not any(grant.given.values()) and not pauses:
                    return grant
                new = {**name, "version": row.version, "level": msgspec.json.encode(after)}
                statement = WRITE if row.level else self._make
                if (await connection.execute(statement, values(new))).rowcount == 1:
                    return grant
        raise Transient("database_conflict", f"the account {self._plan.name} is much in demand")


def _make(dialect: str) -> Executable:
    """The first version of an account, unless somebody else made it."""
    insert = postgresql.insert if dialect == "postgresql" else sqlite.insert
    first = insert(ACCOUNTS).values(name=NAME, version=1, level=LEVEL)
    return first.on_conflict_do_nothing().execution_options(preserve_rowcount=True)


@asynccontextmanager
async def governed(
    database_url: str, limits: Mapping[str, int], *, patience: float
) -> AsyncIterator[Governor | None]:
    """The governor of a process, with a connection of its own; None where there is no limit. See Governor."""
    log.info("provider_limits", **limits)
    if not any(limits.values()):
        yield None
        return
    engine = make_engine(database_url, pool=1)
    account = partial(SqlTokens, engine)
    governor = Governor(limits, account, patience=patience, chance=random.random)
    try:
        yield governor
    finally:
        await governor.close()
        await engine.dispose()
