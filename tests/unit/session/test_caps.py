"""Caps: which count for a turn, what it reserves, when it may begin, and what becomes of one that may not."""

from __future__ import annotations

import pytest

from shared.session import Input
from shared.session.caps import (
    EACH,
    Account,
    Cap,
    Refusal,
    Scope,
    Spender,
    admit,
    applying,
    key_of,
    resets_at,
    words,
)
from shared.session.commands import Open
from shared.session.policy import Barred, Policy
from tests.builders import TENANT, at, bound, elapsed, interrupting, turn
from tests.unit.session.specification import Given, given, history

pytestmark = pytest.mark.unit
SPENDER = Spender(tenant_id=TENANT, user_id="u1", session_id="s1")
CAPPED = Policy(capped=True)
DOLLAR = 1_000_000
FULL = Barred(type="cap_reached", words="the cap of $1.00 is reached", waits=False)
BUSY = Barred(type="cap_reserved", words="the cap of $1.00 is reserved", waits=True, chance=0.5)
DECEMBER, LAST_OF_YEAR = 1_796_083_200.0, 1_798_761_599.0


def cap(scope: Scope = "user", who: str = "u1", limit: int = DOLLAR, month: bool = False) -> Cap:
    period = "month" if month else "all"
    return Cap(tenant_id=TENANT, scope=scope, who=who, period=period, limit=limit)  # type: ignore[arg-type]


def account(spent: int = 0, reserved: int = 0, dearest: int = 0, limit: int = DOLLAR) -> Account:
    return Account(cap=cap(limit=limit), who="u1", spent=spent, reserved=reserved, dearest=dearest)


def test_a_cap_of_ones_own_goes_before_one_on_each() -> None:
    each, own, other = cap(who=EACH, limit=1), cap(limit=2), cap(who="u2", limit=3)
    assert applying((each, own, other), SPENDER) == (own,)
    assert applying((own, each), SPENDER) == (own,)
    assert applying((each, other), SPENDER) == (each,)


def test_each_scope_and_period_counts_by_itself() -> None:
    caps = (cap("tenant", ""), cap("session", "s1"), cap(), cap(month=True), cap("session", "s2"))
    assert set(applying(caps, SPENDER)) == set(caps[:4])


def test_a_session_nobody_named_a_user_of_is_under_no_cap_of_users() -> None:
    nobody = Spender(tenant_id=TENANT, user_id="", session_id="s1")
    assert applying((cap(who=EACH), cap()), nobody) == ()


@pytest.mark.parametrize(
    ("accounts", "reserves"),
    [
        ((account(),), 400_000),
        ((account(dearest=700_000),), 700_000),
        ((account(spent=600_000, reserved=0),), 400_000),
        ((account(spent=999_999),), 400_000),  # alone, and something is left
        ((account(limit=1),), 400_000),
        ((account(spent=100_000, reserved=500_000),), 400_000),
        ((account(dearest=1), account(dearest=500_000)), 500_000),
        ((), 400_000),
    ],
)
def test_a_turn_reserves_the_dearest_seen_and_may_begin(
    accounts: tuple[Account, ...], reserves: int
) -> None:
    assert admit(accounts, 400_000) == reserves


@pytest.mark.parametrize(
    ("accounts", "waits"),
    [
        ((account(spent=DOLLAR),), False),
        ((account(spent=DOLLAR, reserved=5),), False),
        ((account(spent=100_000, reserved=500_001),), True),
        ((account(reserved=1, dearest=DOLLAR),), True),
        ((account(reserved=900_000), account(spent=2 * DOLLAR)), False),
    ],
)
def test_a_turn_waits_for_what_is_reserved_and_is_refused_for_what_is_spent(
    accounts: tuple[Account, ...], waits: bool
) -> None:
    refusal = admit(accounts, 400_000)
    assert isinstance(refusal, Refusal)
    assert refusal.waits is waits


def test_a_month_begins_at_midnight_utc() -> None:
    assert key_of("month", DECEMBER - 0.001) == "2026-11"
    assert key_of("month", DECEMBER) == "2026-12"
    assert key_of("all", DECEMBER) == "all"
    assert resets_at("month", DECEMBER - 0.001) == "2026-12-01T00:00:00Z"
    assert resets_at("month", LAST_OF_YEAR) == "2027-01-01T00:00:00Z"
    assert resets_at("all", DECEMBER) is None


def test_a_refusal_names_the_cap_how_it_stands_and_when_it_resets() -> None:
    monthly = Account(
        cap=cap(limit=5 * DOLLAR, month=True),
        who="u1",
        spent=4_980_000,
        reserved=50_000,
        dearest=0,
    )
    assert words(Refusal(account=monthly, waits=True), DECEMBER) == (
        "the cap of $5.00 in this month on user u1 is reserved: $4.98 spent, $0.05 reserved by turns that run; "
        "it resets at 2027-01-01T00:00:00Z"
    )
    whole = Account(cap=cap("tenant", ""), who="", spent=1_000_001, reserved=0, dearest=0)
    assert words(Refusal(account=whole, waits=False), DECEMBER) == (
        "the cap of $1.00 in all on the tenant is reached: $1.000001 spent, $0.00 reserved by turns that run; "
        "it does not reset, an operator can raise it"
    )


# ---- what the core makes of it --------------------------------------------------------------------------------


def barring(barred: Barred, *turns: str) -> Policy:
    return Policy(capped=True, barred=dict.fromkeys(turns, barred))


def capped(*inputs: Input) -> Given:
    return given(*history(*inputs, policy=CAPPED))


def test_a_turn_under_a_cap_reserves_before_anything_is_asked_of_the_provider() -> None:
    begun = given().when(turn("t1"), CAPPED)
    begun.then("session.opened", "turn.accepted", "turn.reserved", commands=(Open(turn_id="t1"),))
    assert begun.state.progress is not None
    assert begun.state.progress.reserved
    assert "turn.reserved" not in [event.type for event in given().when(turn("t1")).events]


def test_a_turn_reserves_once_however_often_it_is_tried() -> None:
    events = history(turn("t1"), bound(), elapsed(5), policy=CAPPED)
    assert [event.type for event in events].count("turn.reserved") == 1


def test_a_turn_that_a_cap_refuses_says_so_and_the_next_is_looked_at_by_itself() -> None:
    refused = given().when(turn("t1"), barring(FULL, "t1"))
    refused.then("session.opened", "turn.accepted", "turn.refused", "session.idled")
    refused.saying(
        "turn.refused", status="refused", error={"type": "cap_reached", "message": FULL.words}
    )
    assert refused.decision.commands == ()


def test_a_turn_that_waits_for_what_is_reserved_is_due_again_and_no_attempt_failed() -> None:
    waits = given().when(turn("t1"), barring(BUSY, "t1"))
    waits.then("session.opened", "turn.accepted", "turn.retrying")
    waits.saying("turn.retrying", reason="cap_reserved", retry_at=at(1), status="accepted")
    assert (waits.state.failures, waits.state.due_at) == (0, at(1))
    again = Given(waits.state).when(elapsed(1), CAPPED)
    again.then("turn.reserved", commands=(Open(turn_id="t1"),))
    started = Given(again.state).when(bound(second=2), CAPPED)
    started.saying("turn.started", attempts=1)


def test_a_turn_that_waited_for_as_long_as_any_is_tried_is_refused() -> None:
    state = given().when(turn("t1"), barring(BUSY, "t1")).state
    refused = Given(state).when(elapsed(15 * 60), barring(BUSY, "t1"))
    refused.then("turn.refused", "session.idled")
    assert b'"cap_reserved"' in bytes(refused.events[0].data)


def test_a_turn_that_waits_can_be_interrupted() -> None:
    state = given().when(turn("t1"), barring(BUSY, "t1")).state
    Given(state).when(interrupting(1), CAPPED).then("turn.interrupted", "session.idled")


def test_a_cap_that_came_later_does_not_stop_a_turn_that_has_begun() -> None:
    running = given(*history(turn("t1"), bound()))
    running.when(elapsed(1), barring(FULL, "t1")).then()
