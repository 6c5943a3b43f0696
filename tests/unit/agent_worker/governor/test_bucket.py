"""What the provider sees in any minute, and what is left to each lane."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from services.agent_worker.governor import supply
from services.agent_worker.governor.supply import (
    BACKGROUND,
    LIST,
    RECONNECT,
    REQUEST_SHARES,
    SEND,
    URGENT,
    WINDOW_SECONDS,
    plan,
)

pytestmark = pytest.mark.unit
PLAN = plan("requests", 1_200, REQUEST_SHARES)
LANES = list(REQUEST_SHARES)


def emptied() -> supply.Level:
    return supply.Level(0.0, 0.0, dict.fromkeys(LANES, 0.0))


@settings(max_examples=200, deadline=None)
@given(
    per_minute=st.sampled_from([10, 60, 300, 1_200, 60_000]),
    steps=st.lists(
        st.tuples(
            st.sampled_from([0.0, 0.01, 0.1, 0.25, 1.0, 7.0, 31.0]),
            st.dictionaries(st.sampled_from(LANES), st.integers(0, 5_000), max_size=5),
        ),
        max_size=80,
    ),
)
def test_no_minute_holds_more_than_the_limit(
    per_minute: int, steps: list[tuple[float, dict[str, int]]]
) -> None:
    limited = plan("requests", per_minute, REQUEST_SHARES)
    level, now, taken = supply.full(limited, 0.0), 0.0, list[tuple[float, int]]()
    for passed, asks in steps:
        now += passed
        level, grant = supply.take(level, limited, now, asks, {})
        assert all(grant.given[lane] <= asks[lane] for lane in grant.given)
        taken.append((now, sum(grant.given.values())))
    for begin, _ in taken:
        held = sum(count for at, count in taken if begin <= at < begin + WINDOW_SECONDS)
        assert held <= per_minute


def test_a_lane_alone_may_use_nearly_all_of_the_limit() -> None:
    level, given = supply.full(PLAN, 0.0), 0
    for tick in range(600):
        level, grant = supply.take(level, PLAN, tick / 10, {BACKGROUND: 10_000}, {})
        given += grant.given[BACKGROUND]
    assert given > 1_200 * 0.9


def test_a_lane_gets_its_share_however_busy_the_others_are() -> None:
    level, given = emptied(), dict.fromkeys(LANES, 0)
    for tick in range(1, 601):
        asks = {RECONNECT: 10_000, SEND: 10_000, LIST: 10_000, BACKGROUND: 10_000}
        level, grant = supply.take(level, PLAN, tick / 10, asks, {})
        for lane, count in grant.given.items():
            given[lane] += count
    for lane in (RECONNECT, SEND, LIST, BACKGROUND):
        assert given[lane] >= int(REQUEST_SHARES[lane] * PLAN.rate * 60) - 1
    # What the urgent lane left over went to the others.
    assert sum(given.values()) >= PLAN.rate * 60 - PLAN.own[URGENT] - len(LANES)


def test_an_interrupt_goes_at_once_into_a_flood() -> None:
    level, _ = supply.take(supply.full(PLAN, 0.0), PLAN, 0.0, {SEND: 10_000, LIST: 10_000}, {})
    _, grant = supply.take(level, PLAN, 0.0, {SEND: 10_000, URGENT: 5}, {})
    assert grant.given == {URGENT: 5, SEND: 0}


def test_a_paused_lane_gets_nothing_and_the_others_go_on() -> None:
    level, grant = supply.take(supply.full(PLAN, 0.0), PLAN, 0.0, {SEND: 1, LIST: 1}, {SEND: 7.0})
    assert grant.given == {LIST: 1}
    assert grant.paused == {SEND: 7.0}
    assert grant.wait == pytest.approx(7.0)
    level, grant = supply.take(level, PLAN, 6.9, {SEND: 1}, {SEND: 0.05})
    assert grant.given == {}
    level, grant = supply.take(level, PLAN, 7.0, {SEND: 1}, {})
    assert (grant.given, grant.paused) == ({SEND: 1}, {})


def test_a_lane_that_gets_nothing_hears_when_there_may_be_more() -> None:
    _, grant = supply.take(emptied(), PLAN, 0.0, {SEND: 1}, {})
    assert grant.wait == pytest.approx(1 / PLAN.rate)


def test_a_clock_that_goes_back_gives_nothing_away() -> None:
    level, grant = supply.take(emptied(), PLAN, -100.0, {SEND: 1}, {})
    assert grant.given == {SEND: 0}
    _, grant = supply.take(level, PLAN, 0.0, {SEND: 1}, {})
    assert grant.given == {SEND: 0}
