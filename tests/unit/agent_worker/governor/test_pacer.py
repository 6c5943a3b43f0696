"""Who goes when, in virtual time: under the limit, fair, in lanes, and never held for long by a database."""

from __future__ import annotations

import asyncio

import pytest

from services.agent_worker.governor import pacer as pacer_module
from services.agent_worker.governor.supply import BACKGROUND, LIST, SEND, URGENT
from tests.unit.agent_worker.governor.worlds import (
    PER_MINUTE,
    PLAN,
    Calls,
    Gone,
    account,
    busiest_minute,
    now,
    pacer,
)
from tests.unit.agent_worker.virtual_time import virtual

pytestmark = pytest.mark.unit


@virtual
async def test_workers_that_share_an_account_stay_under_the_limit_together() -> None:
    shared = account()
    calls = Calls(pacer(shared), pacer(shared), pacer(shared))
    calls.ask(SEND, "acme", 3_000)
    await calls.done()
    went = calls.went["acme"]
    assert len(went) == 3_000
    assert busiest_minute(went) <= PER_MINUTE
    # And they use it: hardly longer than it must take.
    assert max(went) < 3_000 / PLAN.rate


@virtual
async def test_one_tenants_flood_delays_another_by_no_more_than_its_share() -> None:
    calls = Calls(pacer(account()))
    calls.ask(SEND, "flood", 1_000)
    await asyncio.sleep(5.0)
    began = now()
    calls.ask(SEND, "small", 10)
    await calls.done()
    # Alone it would have had every token; beside one other tenant it has every second one.
    assert max(calls.went["small"]) - began <= 2 * 10 / PLAN.rate + 0.5
    assert max(calls.went["flood"]) > 40.0


@virtual
async def test_an_interrupt_overtakes_a_flood() -> None:
    calls = Calls(pacer(account()))
    calls.ask(SEND, "flood", 1_000)
    calls.ask(LIST, "flood", 1_000)
    await asyncio.sleep(10.0)
    began = now()
    calls.ask(URGENT, "flood")
    await asyncio.sleep(0.3)
    assert any(at - began <= 0.05 for at in calls.went["flood"] if at >= began)
    assert not [task for task in calls._tasks[2_000:] if not task.done()]


@virtual
async def test_requests_in_a_row_do_not_ask_the_account_one_by_one() -> None:
    tokens = Gone()
    tokens.away = False
    calls = Calls(pacer(tokens))
    for _ in range(50):
        calls.ask(SEND, "acme")
        await asyncio.sleep(0.01)
    await calls.done()
    assert len(calls.went["acme"]) == 50
    assert now() < 0.6
    assert tokens.asked < 15


@virtual
async def test_a_429_pauses_the_lane_for_all_workers_and_no_other_lane() -> None:
    shared = account()
    one, other = pacer(shared), pacer(shared)
    one.pause(SEND, 7.0)
    await asyncio.sleep(0.01)
    calls, free = Calls(other), Calls(other)
    calls.ask(SEND, "acme", 3)
    free.ask(URGENT, "acme", 3)
    await asyncio.gather(calls.done(), free.done())
    assert max(free.went["acme"]) < 0.1
    assert 7.0 <= min(calls.went["acme"]) <= max(calls.went["acme"]) < 9.0


@virtual
async def test_a_pause_of_hours_is_tried_out_after_a_minute() -> None:
    one = pacer(account())
    one.pause(SEND, 7_200.0)
    calls = Calls(one)
    calls.ask(SEND, "acme")
    await calls.done()
    assert 60.0 <= calls.went["acme"][0] < 62.0


@virtual
async def test_nobody_waits_for_a_pause_longer_than_the_patience() -> None:
    shared = account()
    one, other = pacer(shared, patience=5.0), pacer(shared, patience=5.0)
    one.pause(SEND, 20.0)
    await asyncio.sleep(0.01)
    here, there = Calls(one), Calls(other)
    here.ask(SEND, "acme")
    there.ask(SEND, "acme")
    await here.done()
    await there.done()
    assert now() < 0.5
    for held in here.held + there.held:
        assert (held.reason, round(held.retry_after)) == ("paused", 20)
    assert len(here.held + there.held) == 2


@virtual
async def test_a_wait_ends_with_a_word_on_when_to_come_again() -> None:
    calls = Calls(pacer(account(), patience=10.0))
    calls.ask(BACKGROUND, "acme", 2_000)
    await calls.done()
    assert now() == pytest.approx(10.0, abs=0.1)
    assert {held.reason for held in calls.held} == {"timeout"}
    assert all(1.0 <= held.retry_after <= 60.0 for held in calls.held)


@virtual
async def test_a_full_lane_refuses_the_one_who_floods(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pacer_module, "MAX_WAITING", 100)
    one = pacer(account())
    one.pause(SEND, 30.0)
    flood, small = Calls(one), Calls(one)
    flood.ask(SEND, "flood", 100)
    await asyncio.sleep(0.01)
    small.ask(SEND, "small", 10)
    await asyncio.gather(flood.done(), small.done())
    assert not small.held
    assert [held.reason for held in flood.held] == ["full"] * 10


@virtual
async def test_a_request_that_gives_up_waiting_takes_no_token() -> None:
    one = pacer(account())
    one.pause(SEND, 5.0)
    tasks = [asyncio.create_task(one.admit(SEND, "gone")) for _ in range(500)]
    await asyncio.sleep(1.0)
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)
    calls = Calls(one)
    calls.ask(SEND, "acme")
    await calls.done()
    assert calls.went["acme"][0] < 6.5


@pytest.mark.parametrize("silent", [False, True])
def test_a_database_that_is_away_holds_nobody_for_a_second(silent: bool) -> None:
    @virtual
    async def away() -> None:
        tokens = Gone(silent=silent)
        calls = Calls(pacer(tokens))
        for _ in range(20):
            began = now()
            calls.ask(SEND, "acme")
            await calls.done()
            assert now() - began < 1.0
            await asyncio.sleep(1.0)
        assert len(calls.went["acme"]) == 20
        assert 0 < tokens.asked <= 25

    away()


@virtual
async def test_a_worker_without_the_account_takes_a_part_and_comes_back_to_it() -> None:
    tokens = Gone()
    calls = Calls(pacer(tokens))
    calls.ask(SEND, "acme", 1_000)
    await asyncio.sleep(60.0)
    alone = len(calls.went["acme"])
    assert 200 <= alone <= PER_MINUTE / 4
    tokens.away = False
    await calls.done()
    assert now() < 60.0 + (1_000 - alone) / PLAN.rate + 2.0


@virtual
async def test_a_pause_made_while_the_database_is_away_is_told_later() -> None:
    tokens = Gone()
    one = pacer(tokens)
    one.pause(SEND, 30.0)
    await asyncio.sleep(5.0)
    tokens.away = False
    await asyncio.sleep(5.0)
    grant = await tokens.take({SEND: 1}, {})
    assert grant.paused[SEND] == pytest.approx(20.0, abs=0.5)
