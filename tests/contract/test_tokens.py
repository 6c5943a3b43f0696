"""One suite for the account of what all workers ask of the provider: in memory, on SQLite, on PostgreSQL."""

from __future__ import annotations

import asyncio
import time

import pytest
from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncEngine

from services.agent_worker.adapters.engine import make_engine
from services.agent_worker.adapters.tokens import SqlTokens
from services.agent_worker.governor.supply import (
    CREATE,
    CREATE_SHARES,
    LIST,
    REQUEST_SHARES,
    SEND,
    plan,
)
from services.agent_worker.ports import Tokens
from shared.errors import Transient
from tests.fakes.tokens import MemoryTokens

pytestmark = pytest.mark.contract
PLAN = plan("requests", 10, REQUEST_SHARES)  # a token in 13 seconds: none comes while a test runs
SAVED = int(PLAN.own[SEND] + PLAN.common)
CREATES = plan("creates", 10, CREATE_SHARES)


@pytest.fixture
async def tokens(engine: AsyncEngine | None) -> Tokens:
    """A full account."""
    if engine is None:
        return MemoryTokens(PLAN, time.monotonic)
    async with engine.begin() as connection:
        await connection.execute(text("DELETE FROM worker_rate_accounts"))
    return SqlTokens(engine, PLAN)


async def test_what_is_saved_is_given_once(tokens: Tokens) -> None:
    grant = await tokens.take({SEND: 100}, {})
    assert grant.given == {SEND: SAVED}
    grant = await tokens.take({SEND: 100}, {})
    assert grant.given == {SEND: 0}
    assert 1.0 < grant.wait < 20.0


async def test_a_lane_keeps_its_own_while_another_is_empty(tokens: Tokens) -> None:
    await tokens.take({SEND: 100}, {})
    grant = await tokens.take({SEND: 100, LIST: 1}, {})
    assert grant.given == {SEND: 0, LIST: 1}


async def test_takes_at_once_never_get_the_same_token(tokens: Tokens) -> None:
    grants = await asyncio.gather(*(tokens.take({SEND: 1, LIST: 1}, {}) for _ in range(8)))
    assert sum(grant.given[SEND] for grant in grants) <= SAVED
    assert sum(sum(grant.given.values()) for grant in grants) == int(PLAN.own[SEND]) * 2


async def test_a_pause_holds_for_whoever_asks_next(tokens: Tokens) -> None:
    await tokens.take({}, {SEND: 50.0})
    await tokens.take({}, {SEND: 1.0})
    grant = await tokens.take({SEND: 1, LIST: 1}, {})
    assert grant.given == {LIST: 1}
    assert 40.0 < grant.paused[SEND] <= 50.0


async def test_limits_have_accounts_of_their_own(
    tokens: Tokens, engine: AsyncEngine | None
) -> None:
    await tokens.take(dict.fromkeys(REQUEST_SHARES, 100), {})
    other = SqlTokens(engine, CREATES) if engine else MemoryTokens(CREATES, time.monotonic)
    grant = await other.take({CREATE: 1}, {})
    assert grant.given == {CREATE: 1}


async def test_a_database_that_is_away_is_said_to_be() -> None:
    engine = make_engine("postgresql+asyncpg://nobody@127.0.0.1:1/none", pool=1)
    with pytest.raises(Transient) as caught:
        await SqlTokens(engine, PLAN).take({SEND: 1}, {})
    await engine.dispose()
    assert caught.value.reason == "database_away"
