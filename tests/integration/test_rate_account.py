"""Two workers on one PostgreSQL: what they ask of the provider together, and what one 429 means for both."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack

import pytest

from infra.postgres.migrate import migrate_async
from services.agent_worker.adapters.tokens import governed
from services.agent_worker.governor.governor import Governor
from services.agent_worker.governor.supply import LIST, REQUEST_SHARES, SEND, plan
from tests.stack import fresh_database

pytestmark = pytest.mark.integration
PER_MINUTE = 6_000
PLAN = plan("requests", PER_MINUTE, REQUEST_SHARES)
REQUESTS = 600


@pytest.fixture
async def workers(postgres_server: str) -> AsyncIterator[tuple[Governor, Governor]]:
    limits = {"requests": PER_MINUTE, "creates": 0}
    async with AsyncExitStack() as stack:
        url = await stack.enter_async_context(fresh_database(postgres_server))
        await migrate_async(url)
        made = [
            await stack.enter_async_context(governed(url, limits, patience=30.0)) for _ in range(2)
        ]
        one, other = made
        assert one is not None
        assert other is not None
        yield one, other


async def went(worker: Governor, lane: str, count: int) -> list[float]:
    """When each of so many requests at once was let go."""

    async def one() -> float:
        assert await worker.admit(lane, "acme") is None
        return time.monotonic()

    return await asyncio.gather(*(one() for _ in range(count)))


async def test_two_workers_share_one_limit(workers: tuple[Governor, Governor]) -> None:
    began = time.monotonic()
    halves = await asyncio.gather(*(went(worker, SEND, REQUESTS // 2) for worker in workers))
    times = sorted(at - began for half in halves for at in half)
    saved = PLAN.own[SEND] + PLAN.common
    for seconds in (0.5, 1.0, 2.0, 3.0):
        allowed = saved + PLAN.rate * (seconds + 0.1)
        assert sum(at <= seconds for at in times) <= allowed
    # Neither of them was left behind.
    assert abs(max(halves[0]) - max(halves[1])) < times[-1]
    assert len(times) == REQUESTS


async def test_a_429_of_one_worker_holds_the_other_back(workers: tuple[Governor, Governor]) -> None:
    one, other = workers
    began = time.monotonic()
    one.refused(SEND, 2.0)
    await went(one, LIST, 1)  # served with the news, or after it
    (sent,) = await went(other, SEND, 1)
    (listed,) = await went(other, LIST, 1)
    assert sent - began >= 1.9
    assert listed - sent < 1.0


async def test_without_limits_nothing_is_asked_of_the_database() -> None:
    away = "postgresql+asyncpg://nobody@127.0.0.1:1/none"
    async with governed(away, {"requests": 0, "creates": 0}, patience=1.0) as governor:
        assert governor is None
    async with governed(away, {"requests": 0, "creates": 300}, patience=1.0) as governor:
        assert governor is not None
        assert await governor.admit(SEND, "acme") is None


async def test_without_a_database_requests_go_on() -> None:
    away = "postgresql+asyncpg://nobody@127.0.0.1:1/none"
    async with governed(away, {"requests": 600, "creates": 0}, patience=5.0) as governor:
        assert governor is not None
        began = time.monotonic()
        await went(governor, SEND, 5)
        assert time.monotonic() - began < 1.5
