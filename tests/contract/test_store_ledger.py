"""The ledger that the worker's stores on SQL keep: lines are written with the head that recorded them, or not."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Any

import pytest
from msgspec.structs import replace
from sqlalchemy import select
from sqlalchemy.ext.asyncio import AsyncEngine

from services.agent_worker.ports import Head, Store
from shared.errors import Fenced
from shared.session import decide
from shared.session.policy import Policy
from shared.session.prices import Price, Prices
from shared.tables.worker import LEDGER
from tests.builders import Wire, seen
from tests.contract.store_rows import EXPIRED, KEY, advanced, asked, claimed

pytestmark = pytest.mark.contract
PRICED = Policy(prices=Prices((Price(model="model-1", input=2_000, output=10_000),)))


async def lines(engine: AsyncEngine) -> Sequence[Any]:
    async with engine.connect() as connection:
        query = select(LEDGER).order_by(LEDGER.c.session_id, LEDGER.c.seq, LEDGER.c.line)
        return (await connection.execute(query)).all()


def charged(head: Head) -> Head:
    """The head after a whole turn, whose events were not written yet."""
    decision = decide(head.state, seen(*Wire().reply("¿qué? 🎈")), PRICED)
    return replace(head, state=decision.state, unsaid=decision.events)


@pytest.fixture
def database(engine: AsyncEngine | None) -> AsyncEngine:
    if engine is None:
        pytest.skip("the store in memory keeps no ledger")
    return engine


async def test_a_write_leaves_the_lines_of_its_events(store: Store, database: AsyncEngine) -> None:
    await store.file([asked()])
    head = charged(advanced(await claimed(store)))
    await store.write(head)
    request, correction = await lines(database)
    assert (request.tenant_id, request.session_id, request.turn_id) == (*KEY, "t1")
    assert (request.kind, request.price, request.micro_usd) == (
        "request",
        "model-1",
        10 * 2 + 5 * 10,
    )
    assert (request.input_tokens, request.output_tokens, request.estimate) == (10, 5, False)
    assert (correction.kind, correction.micro_usd) == ("provider", 30_000 - 70)
    assert (request.seq, request.line, correction.line) == (correction.seq, 0, 1)
    assert head.state.ledger is not None
    assert request.micro_usd + correction.micro_usd == head.state.ledger.micro_usd


async def test_a_write_that_is_fenced_leaves_no_line(store: Store, database: AsyncEngine) -> None:
    await store.file([asked()])
    old = advanced(await claimed(store, lease=EXPIRED))
    new = advanced(await claimed(store, "b"))
    with pytest.raises(Fenced):
        await store.write(charged(old))
    assert not await lines(database)
    await store.write(charged(new))
    assert len(await lines(database)) == 2


async def test_of_writes_at_once_each_session_gets_its_own_lines(
    store: Store, database: AsyncEngine
) -> None:
    keys = [(KEY[0], f"many-{number:02}") for number in range(40)]
    await store.file([asked("t1", key) for key in keys])
    heads = [charged(advanced(head)) for head in await store.claim("a", 40, 60.0)]
    stale = {head.key for head in heads[::5]}
    given = [replace(head, epoch=head.epoch - 1) if head.key in stale else head for head in heads]
    plain = {head.key for head in heads[1::5]}
    given = [replace(head, unsaid=()) if head.key in plain else head for head in given]
    await asyncio.gather(*(store.write(head) for head in given), return_exceptions=True)
    found = await lines(database)
    assert {row.session_id for row in found} == {k[1] for k in keys} - {k[1] for k in stale | plain}
    assert len(found) == 2 * (40 - len(stale) - len(plain))


async def test_a_head_that_adds_to_the_ledger_is_written_by_itself(
    store: Store, database: AsyncEngine
) -> None:
    await store.file([asked()])
    head = await store.write(advanced(await claimed(store)))
    taken = replace(charged(head), taken=head.taken + 1)
    assert await store.take_in(taken, [asked("t2")]) is None
    assert not await lines(database)
    assert [new.filed.input_id for new in await store.unread(KEY, 0)] == ["turn:t1", "turn:t2"]
    await store.write(charged(head))
    assert len(await lines(database)) == 2
