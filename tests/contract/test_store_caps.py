"""Caps that the worker's stores keep: reserved, charged and given back in the write of the head, or not at all."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Any

import pytest
from msgspec.structs import replace
from sqlalchemy import func, insert, select, update
from sqlalchemy.ext.asyncio import AsyncEngine

from services.agent_worker.adapters.caps import SETTLED_SECONDS, SqlCaps
from services.agent_worker.adapters.engine import store_on
from services.agent_worker.ports import CapReached, Head, Money, NewInput, Store
from shared import metrics
from shared.errors import Fenced
from shared.session import decide
from shared.session.caps import EACH, Cap, Spender, key_of
from shared.session.policy import Policy
from shared.tables.caps import CAP_ACCOUNTS, CAPS, RESERVATIONS
from shared.tables.clock import Now
from shared.tables.worker import LEDGER
from tests.builders import TENANT, USER, Wire, bound, seen, turn
from tests.contract.store_rows import EXPIRED, KEY, asked, claimed

pytestmark = pytest.mark.contract
CAPPED = Policy(capped=True)
# What the provider says that a turn costs: three cents.
TURN = 30_000
CENT = 10_000


def spender(session_id: str = KEY[1]) -> Spender:
    return Spender(tenant_id=TENANT, user_id=USER, session_id=session_id)


def capped(limit: int, *, month: bool = False, set_at: float = 0.0) -> Cap:
    period = "month" if month else "all"
    return Cap(
        tenant_id=TENANT,
        scope="user",
        who=USER,
        period=period,  # type: ignore[arg-type]
        limit=limit,
        set_at=set_at,
    )


def reserving(cap: Cap, head: Head, least: int = 1, turn_id: str = "t1") -> Money:
    return Money(spender=spender(head.key[1]), caps=(cap,), reserve=turn_id, least=least)


def settling(cap: Cap, head: Head, turn_id: str = "t1") -> Money:
    return Money(spender=spender(head.key[1]), caps=(cap,), release=turn_id)


def begun(head: Head) -> Head:
    """The head after its turn was taken in, reserved and bound."""
    first = decide(head.state, turn("t1"), CAPPED)
    second = decide(first.state, bound(), CAPPED)
    events = first.events + second.events
    return replace(head, state=second.state, unsaid=events, position=1, taken=1)


def ended(head: Head) -> Head:
    """The head after the whole turn, whose events were not written yet."""
    decision = decide(head.state, seen(*Wire().reply()), CAPPED)
    return replace(head, state=decision.state, unsaid=decision.events)


async def rows(engine: AsyncEngine, table: Any) -> Sequence[Any]:
    async with engine.connect() as connection:
        return (await connection.execute(select(table))).all()


async def now_of(engine: AsyncEngine) -> float:
    async with engine.connect() as connection:
        return float((await connection.execute(select(Now()))).scalar_one())


async def ledger_sum(engine: AsyncEngine) -> int:
    async with engine.connect() as connection:
        total = await connection.execute(select(func.coalesce(func.sum(LEDGER.c.micro_usd), 0)))
        return int(total.scalar_one())


@pytest.fixture
async def database(engine: AsyncEngine | None) -> AsyncEngine:
    if engine is None:
        pytest.skip("read by their tables")
    return engine


async def fresh(store: Store, session: str = KEY[1]) -> Head:
    await store.file([asked("t1", (TENANT, session))])
    return await claimed(store)


async def test_a_turn_reserves_with_its_head_and_settles_with_its_lines(
    store: Store, database: AsyncEngine
) -> None:
    cap, head = capped(10 * CENT), await fresh(store)
    head = await store.write(begun(head), reserving(cap, head, least=4 * CENT))
    (held,) = await rows(database, RESERVATIONS)
    assert (held.turn_id, held.user_id, held.left_micro_usd) == ("t1", USER, 4 * CENT)
    await store.write(ended(head), settling(cap, head))
    assert not await rows(database, RESERVATIONS)
    (account,) = await rows(database, CAP_ACCOUNTS)
    assert (account.scope, account.who, account.period) == ("user", USER, "all")
    assert (account.spent_micro_usd, account.dearest_micro_usd) == (TURN, TURN)
    assert await ledger_sum(database) == TURN


async def test_what_a_running_turn_was_charged_is_no_longer_reserved(
    store: Store, database: AsyncEngine
) -> None:
    cap, head = capped(10 * CENT), await fresh(store)
    head = await store.write(begun(head), reserving(cap, head, least=4 * CENT))
    await store.write(ended(head), replace(settling(cap, head), release=None))
    (held,) = await rows(database, RESERVATIONS)
    assert held.left_micro_usd == 4 * CENT - TURN


async def test_beside_a_turn_that_cost_more_than_it_reserved_another_has_to_fit(
    store: Store,
) -> None:
    """It runs on, and nobody knows what it will come to."""
    cap = capped(TURN + CENT)
    first, second = await fresh(store), await fresh(store, "s2")
    first = await store.write(begun(first), reserving(cap, first, least=CENT))
    charged = ended(first)  # the lines come before the end, as those of its requests do
    first = await store.write(charged, replace(settling(cap, first), release=None))
    with pytest.raises(CapReached) as busy:
        await store.write(begun(second), reserving(cap, second, least=2 * CENT))
    assert busy.value.refusal.waits
    await store.write(replace(first, unsaid=()), settling(cap, first))
    await store.write(begun(second), reserving(cap, second, least=2 * CENT))


async def test_a_turn_that_nothing_is_left_for_leaves_no_trace(store: Store) -> None:
    head = await fresh(store)
    cap = capped(2 * CENT)
    head = await store.write(begun(head), reserving(cap, head))
    await store.write(ended(head), settling(cap, head))
    other = await fresh(store, "s2")
    with pytest.raises(CapReached) as reached:
        await store.write(begun(other), reserving(cap, other))
    assert (reached.value.turn_id, reached.value.refusal.waits) == ("t1", False)
    assert "$0.02 in all on user u1 is reached: $0.03 spent" in reached.value.words
    assert await store.write(begun(other)), "nothing was written before"


async def test_a_turn_waits_while_others_have_reserved_what_is_left(store: Store) -> None:
    cap = capped(10 * CENT)
    first, second = await fresh(store), await fresh(store, "s2")
    first = await store.write(begun(first), reserving(cap, first, least=8 * CENT))
    with pytest.raises(CapReached) as busy:
        await store.write(begun(second), reserving(cap, second, least=8 * CENT))
    assert busy.value.refusal.waits
    assert busy.value.refusal.account.reserved == 8 * CENT
    await store.write(ended(first), settling(cap, first))
    await store.write(begun(second), reserving(cap, second, least=8 * CENT))


async def test_a_write_that_is_fenced_reserves_and_charges_nothing(
    store: Store, database: AsyncEngine
) -> None:
    cap = capped(10 * CENT)
    await store.file([asked()])
    old = await claimed(store, lease=EXPIRED)
    new = await claimed(store, "b")
    with pytest.raises(Fenced):
        await store.write(begun(old), reserving(cap, old))
    assert not await rows(database, RESERVATIONS)
    new = await store.write(begun(new), reserving(cap, new))
    with pytest.raises(Fenced):
        await store.write(ended(begun(old)), settling(cap, old))
    assert len(await rows(database, RESERVATIONS)) == 1
    (account,) = await rows(database, CAP_ACCOUNTS)
    assert account.spent_micro_usd == 0


async def test_a_cap_that_was_lowered_lets_running_turns_end_and_stops_new_ones(
    store: Store,
) -> None:
    wide, narrow = capped(10 * CENT), capped(CENT)
    first, second = await fresh(store), await fresh(store, "s2")
    first = await store.write(begun(first), reserving(wide, first, least=8 * CENT))
    with pytest.raises(CapReached):
        await store.write(begun(second), reserving(narrow, second))
    await store.write(ended(first), settling(narrow, first))
    with pytest.raises(CapReached) as reached:
        await store.write(begun(second), reserving(narrow, second))
    assert not reached.value.refusal.waits


async def test_what_was_spent_before_a_cap_was_set_counts(
    store: Store, database: AsyncEngine
) -> None:
    head = await fresh(store)
    head = await store.write(begun(head))
    await store.write(ended(head))
    cap, other = capped(TURN), await fresh(store, "s2")
    with pytest.raises(CapReached) as reached:
        await store.write(begun(other), reserving(cap, other))
    assert reached.value.refusal.account.spent == TURN


async def test_what_a_worker_spent_that_did_not_know_the_cap_yet_is_counted_later(
    store: Store, database: AsyncEngine
) -> None:
    set_at = await now_of(database)
    young, first = capped(10 * TURN, set_at=set_at), await fresh(store)
    first = await store.write(begun(first), reserving(young, first))
    second = await store.write(begun(other := await fresh(store, "s2")))
    await store.write(ended(second))  # by one that knows of no cap
    (account,) = await rows(database, CAP_ACCOUNTS)
    assert account.spent_micro_usd == 0
    assert other.key == second.key
    async with database.begin() as connection:  # a while later
        earlier = {"counted_at": CAP_ACCOUNTS.c.counted_at - 2 * SETTLED_SECONDS}
        await connection.execute(update(CAP_ACCOUNTS).values(earlier))
    grown = capped(10 * TURN, set_at=set_at - 1.5 * SETTLED_SECONDS)
    await store.write(ended(first), settling(grown, first))
    (account,) = await rows(database, CAP_ACCOUNTS)
    assert account.spent_micro_usd == 2 * TURN


async def test_a_month_counts_what_was_charged_in_it_and_begins_at_nothing(
    store: Store, database: AsyncEngine
) -> None:
    """The provider's clock, which lines carry, may be of another month than the database's."""
    cap, head = capped(TURN, month=True), await fresh(store)
    head = await store.write(begun(head), reserving(cap, head))
    await store.write(ended(head), settling(cap, head))
    charged_in = ended(head).unsaid[-1].at[:7]
    current = key_of("month", await now_of(database))
    spent = {a.period: a.spent_micro_usd for a in await rows(database, CAP_ACCOUNTS)}
    assert spent == {current: 0} | {charged_in: TURN}
    later = await fresh(store, "s2")
    money = reserving(cap, later)
    if charged_in == current:
        with pytest.raises(CapReached, match=r"in this month on user u1 .* it resets at"):
            await store.write(begun(later), money)
    else:
        await store.write(begun(later), money)


async def test_a_session_of_another_user_is_not_held_up(store: Store) -> None:
    cap = replace(capped(CENT), who=EACH)
    head = await fresh(store)
    head = await store.write(begun(head), reserving(cap, head))
    await store.write(ended(head), settling(cap, head))
    other = await fresh(store, "s2")
    money = reserving(cap, other)
    stranger = replace(money.spender, user_id="u2")
    await store.write(begun(other), replace(money, spender=stranger))


@pytest.mark.parametrize("least", [1, TURN, 5 * TURN])
async def test_eight_workers_at_once_overspend_by_one_turn_at_most(
    store: Store, database: AsyncEngine, least: int
) -> None:
    """Where too little is reserved and nothing is known of what a turn costs, by those that run at once."""
    limit = 10 * TURN
    cap = capped(limit)
    keys = [(TENANT, f"many-{number:02}") for number in range(48)]
    filed: list[NewInput] = [asked("t1", key) for key in keys]
    await store.file(filed)
    stores = [store_on(database) for _ in range(8)]
    heads = await store.claim("a", 48, 60.0)
    assert len(heads) == 48

    async def work(worker: Store, mine: list[Head]) -> int:
        paid = 0
        for head in mine:
            for _ in range(200):
                try:
                    running = await worker.write(begun(head), reserving(cap, head, least))
                except CapReached as short:
                    if not short.refusal.waits:
                        break
                    await asyncio.sleep(0)
                    continue
                await worker.write(ended(running), settling(cap, running))
                paid += 1
                break
        return paid

    paid = await asyncio.gather(*(work(one, heads[n::8]) for n, one in enumerate(stores)))
    spent = await ledger_sum(database)
    assert spent == sum(paid) * TURN
    (account,) = await rows(database, CAP_ACCOUNTS)
    assert account.spent_micro_usd == spent
    assert not await rows(database, RESERVATIONS)
    most = limit + TURN if least >= TURN else limit + 8 * TURN
    assert limit <= spent <= most


async def test_how_caps_stand_is_told_by_the_share_that_is_spent(
    store: Store, database: AsyncEngine
) -> None:
    known = SqlCaps(database)
    async with database.begin() as connection:
        row = {"tenant_id": TENANT, "scope": "user", "who": EACH, "period": "all", "set_at": 0.0}
        await connection.execute(insert(CAPS), [{**row, "limit_micro_usd": 2 * TURN}])
    await known.look()
    (cap,) = known.of(spender())
    assert (cap.who, cap.limit) == (EACH, 2 * TURN)
    assert known.of(Spender(tenant_id="other", user_id=USER, session_id="s")) == ()
    head = await fresh(store)
    head = await store.write(begun(head), reserving(cap, head))
    await store.write(ended(head), settling(cap, head))
    await known.tell()
    assert head.key == KEY
    labels = {"scope": "user", "period": "all"}
    reached = {
        percent: metrics.read("turnstile_caps_reached", {**labels, "percent": percent})
        for percent in ("50", "80", "100")
    }
    assert reached == {"50": 1, "80": 0, "100": 0}
