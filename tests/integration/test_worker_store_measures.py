"""What the worker's store on SQL tells an operator: repeats, conflicts, write times, sessions that wait."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from sqlalchemy.ext.asyncio import AsyncEngine

from infra.postgres.migrate import migrate_async
from services.agent_worker.adapters.engine import make_engine, store_on
from services.agent_worker.ports import NewInput
from shared import metrics
from shared.errors import Fenced
from tests.stack import fresh_database

pytestmark = pytest.mark.integration
KIND = {"type": "interrupt.requested"}


def asked(session: str, input_id: str) -> NewInput:
    return NewInput(("acme", session), input_id, KIND["type"], b"{}")


@pytest.fixture(params=["sqlite", "postgres"])
async def engine(
    request: pytest.FixtureRequest, tmp_path: Path, postgres_server: str
) -> AsyncIterator[AsyncEngine]:
    if request.param == "postgres":
        async with fresh_database(postgres_server) as url:
            yield await _migrated(url)
    else:
        yield await _migrated(f"sqlite+aiosqlite:///{tmp_path / 'worker.db'}")


async def _migrated(url: str) -> AsyncEngine:
    await migrate_async(url)
    return make_engine(url, pool=2)


async def test_new_inputs_and_repeats_are_told_apart(engine: AsyncEngine) -> None:
    store = store_on(engine)
    new = metrics.read("turnstile_inputs_filed_total", KIND)
    again = metrics.read("turnstile_inputs_repeated_total", KIND)
    await store.file([asked("s1", "a"), asked("s1", "b")])
    await store.file([asked("s1", "b"), asked("s1", "c"), asked("s1", "c")])
    await engine.dispose()
    assert metrics.read("turnstile_inputs_filed_total", KIND) == new + 3
    assert metrics.read("turnstile_inputs_repeated_total", KIND) == again + 2


async def test_sessions_without_a_driver_are_due(engine: AsyncEngine) -> None:
    store = store_on(engine)
    await store.file([asked(f"s{n}", "a") for n in range(3)])
    before = await store.due()
    await store.claim("me", 2, 60.0)
    after = await store.due()
    await engine.dispose()
    assert (before, after) == (3, 1)


async def test_writes_are_timed_and_conflicts_counted(engine: AsyncEngine) -> None:
    store, samples = store_on(engine), "turnstile_head_write_seconds_count"
    conflicts = metrics.read("turnstile_head_conflicts_total")
    times = metrics.REGISTRY.get_sample_value(samples) or 0.0
    await store.file([asked("s1", "a")])
    (head,) = await store.claim("me", 1, 60.0)
    await store.write(head)
    with pytest.raises(Fenced):
        await store.write(head)
    await engine.dispose()
    assert metrics.read("turnstile_head_conflicts_total") == conflicts + 1
    assert metrics.REGISTRY.get_sample_value(samples) == times + 2
