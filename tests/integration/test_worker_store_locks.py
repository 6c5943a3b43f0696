"""Statements of the worker's store that touch many sessions at once, against each other on real PostgreSQL."""

from __future__ import annotations

import asyncio

import pytest

from infra.postgres.migrate import migrate_async
from services.agent_worker.adapters.engine import make_engine
from services.agent_worker.adapters.store import store_on
from services.agent_worker.ports import NewInput

pytestmark = pytest.mark.integration

SESSIONS, ROUNDS = 60, 8
OWNER = "w1"


def _inputs(number: int) -> list[NewInput]:
    return [
        NewInput(("acme", f"s{session}"), f"in-{number}", "interrupt.requested", b"{}")
        for session in range(SESSIONS)
    ]


async def test_filing_for_many_sessions_never_deadlocks_with_the_extension_of_their_leases(
    postgres_url: str,
) -> None:
    await migrate_async(postgres_url)
    engine = make_engine(postgres_url, pool=8)
    try:
        store = store_on(engine)
        # Claimed backwards, so that the rows do not lie in the order of their keys.
        for new in reversed(_inputs(0)):
            await store.file([new])
            await store.claim(OWNER, 1, 60.0)

        async def file(writer: int) -> None:
            for number in range(ROUNDS):
                await store.file(_inputs(1 + writer * ROUNDS + number))

        async def extend() -> None:
            for _ in range(ROUNDS * 10):
                assert len(await store.extend(OWNER, 60.0)) == SESSIONS

        await asyncio.gather(file(0), file(1), extend(), extend())
    finally:
        await engine.dispose()
