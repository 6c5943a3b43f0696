"""Statements of the worker's store that touch many sessions at once, against each other on real PostgreSQL."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

import pytest
from asyncpg import StringDataRightTruncationError
from msgspec.structs import replace
from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncEngine

from infra.postgres.migrate import migrate_async
from services.agent_worker.adapters.engine import make_engine, store_on
from services.agent_worker.ports import Head, NewInput
from tests.contract.store_rows import asked
from tests.e2e.waiting import eventually

pytestmark = pytest.mark.integration

SESSIONS, ROUNDS = 60, 8
OWNER = "w1"


def _inputs(number: int) -> list[NewInput]:
    return [
        NewInput(("acme", f"s{session}"), f"in-{number}", "interrupt.requested", b"{}")
        for session in range(SESSIONS)
    ]


@pytest.fixture
async def engine(postgres_url: str) -> AsyncIterator[AsyncEngine]:
    """A migrated database of its own."""
    await migrate_async(postgres_url)
    engine = make_engine(postgres_url, pool=8)
    yield engine
    await engine.dispose()


async def test_an_input_that_is_filed_late_is_behind_those_that_were_read(
    engine: AsyncEngine,
) -> None:
    """A batch that is held up by one session must not have places in another one's line already: whoever reads that
    line meanwhile goes on behind what it found, and would never look there again."""
    store, first, second = store_on(engine), ("acme", "s1"), ("acme", "s2")
    await store.file([asked("t1", first), asked("t1", second)])
    async with engine.connect() as connection, connection.begin():
        held = text("SELECT 1 FROM worker_heads WHERE session_id = 's1' FOR UPDATE")
        await connection.execute(held)
        batch = asyncio.create_task(store.file([asked("t2", first), asked("t2", second)]))
        waits = text("SELECT count(*) > 0 FROM pg_locks WHERE NOT granted")
        await eventually(lambda: connection.scalar(waits), "a batch that waits for a lock")
        await store.file([asked("t3", second)])
        read = await store.unread(second, 0)
    await batch
    left = await store.unread(second, read[-1].position)
    found = [unread.filed.input_id for unread in (*read, *left)]
    assert found == ["turn:t1", "turn:t3", "turn:t2"]


async def test_filing_for_many_sessions_never_deadlocks_with_the_extension_of_their_leases(
    engine: AsyncEngine,
) -> None:
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


async def test_a_text_too_long_for_its_column_is_refused_and_never_cut(engine: AsyncEngine) -> None:
    store, key = store_on(engine), ("acme", "long")
    with pytest.raises(StringDataRightTruncationError, match="too long"):
        await store.file([NewInput(key, "i" * 301, "interrupt.requested", b"{}")])
    assert await store.unread(key, 0) == []


async def test_taking_in_and_filing_for_the_same_sessions_loses_and_repeats_nothing(
    engine: AsyncEngine,
) -> None:
    """Whichever comes first, what a head has not taken in is behind its position, and all of that is."""
    store = store_on(engine)
    await store.file(_inputs(0))
    heads = []
    for head in await store.claim(OWNER, SESSIONS, 60.0):
        (first,) = await store.unread(head.key, 0)
        heads.append(await store.write(replace(head, position=first.position, taken=1)))

    async def take_in(head: Head) -> None:
        for number in range(ROUNDS):
            new = NewInput(head.key, f"handed-{number}", "interrupt.requested", b"{}")
            written = await store.take_in(replace(head, taken=head.taken + 1), [new])
            if written is None:
                unread = await store.unread(head.key, head.position)
                taken = head.taken + len(unread)
                written = await store.write(
                    replace(head, position=unread[-1].position, taken=taken)
                )
            head = written

    async def file() -> None:
        for number in range(ROUNDS):
            await store.file(_inputs(1 + number))

    async def extend() -> None:
        for _ in range(ROUNDS * 5):
            assert len(await store.extend(OWNER, 60.0)) == SESSIONS

    await asyncio.gather(file(), extend(), *map(take_in, heads))
    for head in heads:
        assert len(await store.unread(head.key, 0)) == 1 + 2 * ROUNDS
    async with engine.connect() as connection:
        rows = text(
            "SELECT count(*) FROM worker_heads h WHERE filed - taken != (SELECT count(*) FROM worker_inbox i"
            " WHERE i.tenant_id = h.tenant_id AND i.session_id = h.session_id AND i.position > h.position)"
        )
        assert await connection.scalar(rows) == 0
