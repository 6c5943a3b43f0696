"""What a session costs, line by line: exact, each dollar once, and as much as the provider's own account."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest
from hypothesis import given as for_all
from hypothesis import settings
from hypothesis import strategies as st
from msgspec.structs import replace

from shared.session import Event, decide, fold, initial
from shared.session.events import Charge, SessionCharged, Usage
from shared.session.inputs import Input, ProviderEvent
from shared.session.policy import Policy
from shared.session.prices import Price, Prices
from shared.session.state import SessionState
from tests.builders import SESSION, TENANT, Wire, bound, elapsed, seen, turn
from tests.golden.record import SESSIONS
from tests.golden.test_sessions import events_of
from tests.unit.session.histories import random_histories
from tests.unit.session.specification import history

pytestmark = pytest.mark.unit

PRICE = Price(
    model="model-1", input=2_000, output=10_000, cache_write_5m=2_500, cache_write_1h=4_000, cache_read=200,
)  # fmt: skip
POLICY = Policy(prices=Prices((PRICE,)))
BEGUN = (turn("t1"), bound())
MODEL_USAGE = {"input_tokens": 1_000, "output_tokens": 100}


def account(
    wire: Wire, *, cents: int, tokens: tuple[int, int, int, int] = (0, 0, 0, 0), hour: int = 0, seconds: float = 0.0
) -> ProviderEvent:  # fmt: skip
    """`session.usage` as the provider writes it; `tokens`: input, output, read from and written to the cache."""
    told: dict[str, Any] = {
        "input_tokens": tokens[0],
        "output_tokens": tokens[1],
        "cache_read_input_tokens": tokens[2],
        "cache_creation": {
            "ephemeral_5m_input_tokens": tokens[3] - hour, "ephemeral_1h_input_tokens": hour,
        },
        "list_cost": {"amount": str(cents), "currency": "USD"},
        "active_seconds": seconds,
    }  # fmt: skip
    return wire.event("session.usage", usage=told)


def lines(events: tuple[Event, ...]) -> list[tuple[str | None, Charge]]:
    """Every line with its turn, in order."""
    return [
        (event.turn_id, line)
        for event in events
        if event.type == "session.charged"
        for line in msgspec.json.decode(event.data, type=SessionCharged).lines
    ]


def told(
    *inputs: Input, policy: Policy = POLICY
) -> tuple[SessionState, list[tuple[str | None, Charge]]]:
    events = history(*inputs, policy=policy)
    return fold(events), lines(events)


def test_a_request_costs_its_tokens_at_their_prices() -> None:
    wire = Wire()
    spent = wire.spent(1_000, 100, cache_read_input_tokens=5_000)
    state, found = told(*BEGUN, seen(wire.prompt(), spent, wire.idle()))
    ((turn_id, line),) = found
    assert (turn_id, line.kind, line.source, line.price) == ("t1", "request", spent.id, "model-1")
    assert (line.micro_usd, line.estimate) == (2_000 + 1_000 + 1_000, False)
    assert (state.cost_usd, state.billed_usd) == (0.004, 0.0)


def test_an_account_that_agrees_adds_only_the_running_time() -> None:
    wire = Wire()
    said = (
        wire.prompt(),
        wire.spent(10_000, 1_000),
        account(wire, cents=3, tokens=(10_000, 1_000, 0, 0), seconds=9),
    )
    state, found = told(*BEGUN, seen(*said, wire.idle()))
    assert [(line.kind, line.micro_usd) for _, line in found] == [
        ("request", 30_000),
        ("running", 200),
    ]
    assert (state.cost_usd, state.billed_usd) == (0.0302, 0.03)


def test_writes_that_the_cache_keeps_for_an_hour_cost_what_they_cost_more() -> None:
    wire = Wire()
    spent = wire.spent(0, 0, cache_creation_input_tokens=1_000)
    usage = account(wire, cents=0, tokens=(0, 0, 0, 1_000), hour=600)
    state, found = told(*BEGUN, seen(wire.prompt(), spent, usage, wire.idle()))
    assert [(line.kind, line.micro_usd, line.estimate) for _, line in found] == [
        ("request", 2_500, True),
        ("cache_hour", 900, False),
    ]
    assert state.cost_usd == (400 * 2.5 + 600 * 4) / 1e6


def test_tokens_that_no_request_told_of_are_charged_and_given_back_when_it_comes() -> None:
    wire = Wire()
    early = account(wire, cents=1, tokens=(5_000, 0, 0, 0))
    late = wire.spent(5_000, 0)
    state, found = told(*BEGUN, seen(wire.prompt(), early, late, wire.idle()))
    assert [(line.kind, line.tokens.input_tokens, line.micro_usd) for _, line in found] == [
        ("unseen", 5_000, 10_000),
        ("request", 5_000, 10_000),
        ("unseen", -5_000, -10_000),
    ]
    assert state.cost_usd == 0.01


@pytest.mark.parametrize("model", ["model-2", None])
def test_a_child_threads_request_costs_what_its_own_model_costs(model: str | None) -> None:
    """And where that is not told what the session's does, as an estimate."""
    dear = replace(PRICE, model="model-2", input=5_000, output=25_000)
    wire = Wire()
    child = wire.event("span.model_request_end", thread="sthr_1", model_usage=MODEL_USAGE)
    said = seen(wire.prompt(), replace(child, model=model), wire.idle())
    _, found = told(*BEGUN, said, policy=Policy(prices=Prices((PRICE, dear))))
    ((turn_id, line),) = found
    assert (turn_id, line.thread_id, line.model) == ("t1", "sthr_1", model or "model-1")
    assert line.micro_usd == (7_500 if model else 3_000)
    assert line.estimate is (model is None)


def test_a_child_threads_request_that_comes_after_its_account_is_charged_once() -> None:
    """The account has the price of the child's model, and what was reckoned then is taken back."""
    dear = replace(PRICE, model="model-2", input=20_000, output=100_000)
    wire = Wire()
    early = account(wire, cents=30, tokens=(10_000, 1_000, 0, 0))
    usage = {"input_tokens": 10_000, "output_tokens": 1_000}
    child = wire.event("span.model_request_end", thread="sthr_1", model_usage=usage)
    said = seen(wire.prompt(), early, replace(child, model="model-2"), wire.idle())
    state, found = told(*BEGUN, said, policy=Policy(prices=Prices((PRICE, dear))))
    assert [(line.kind, line.micro_usd) for _, line in found] == [
        ("unseen", 30_000),
        ("provider", 270_000),
        ("request", 300_000),
        ("unseen", -30_000),
        ("provider", -270_000),
    ]
    assert {turn_id for turn_id, _ in found} == {"t1"}
    assert state.cost_usd == 0.3


def test_what_the_provider_charges_beyond_the_lines_is_a_line() -> None:
    """A search, say."""
    wire = Wire()
    said = (
        wire.prompt(),
        wire.spent(10_000, 1_000),
        account(wire, cents=13, tokens=(10_000, 1_000, 0, 0)),
    )
    state, found = told(*BEGUN, seen(*said, wire.idle()))
    assert (found[-1][1].kind, found[-1][1].micro_usd, found[-1][1].estimate) == (
        "provider",
        100_000,
        True,
    )
    assert state.cost_usd == 0.13


def test_a_model_without_a_price_is_said_and_costs_what_the_provider_says() -> None:
    wire = Wire()
    said = (
        wire.prompt(),
        wire.spent(10, 5),
        account(wire, cents=4, tokens=(10, 5, 0, 0)),
        wire.idle(),
    )
    state, found = told(*BEGUN, seen(*said), policy=Policy())
    assert [(line.kind, line.price, line.micro_usd) for _, line in found] == [
        ("request", "unknown", 0),
        ("provider", "", 40_000),
    ]
    assert (state.cost_usd, state.usage) == (0.04, Usage(input_tokens=10, output_tokens=5))


def test_counters_that_go_back_take_nothing_away() -> None:
    wire = Wire()
    high = account(wire, cents=9, tokens=(40_000, 0, 0, 0), seconds=450)
    low = account(wire, cents=2, tokens=(1_000, 0, 0, 0), seconds=1)
    before, _ = told(*BEGUN, seen(wire.prompt(), high))
    state, found = told(*BEGUN, seen(wire.prompt(), high), seen(low, wire.idle()))
    assert (
        (state.cost_usd, state.billed_usd) == (before.cost_usd, before.billed_usd) == (0.09, 0.09)
    )
    assert all(line.micro_usd > 0 for _, line in found)


def test_what_comes_between_turns_is_the_sessions_own() -> None:
    wire = Wire()
    first = (*wire.reply()[:-2], account(wire, cents=0, tokens=(10, 5, 0, 0)), wire.idle())
    late = (wire.spent(1_000, 0), account(wire, cents=0, tokens=(1_010, 5, 0, 0), seconds=45))
    state, found = told(*BEGUN, seen(*first), seen(*late))
    own = [line for turn_id, line in found if turn_id is None]
    assert [(line.kind, line.micro_usd) for line in own] == [("request", 2_000), ("running", 1_000)]
    assert round(state.cost_usd * 1e6) == sum(line.micro_usd for _, line in found)


def test_another_provider_session_begins_an_account_of_its_own() -> None:
    one, two = Wire("one"), Wire("two", second=10_000)
    lost = (
        one.prompt(),
        one.spent(10_000, 0),
        account(one, cents=2, tokens=(10_000, 0, 0, 0), seconds=9),
    )
    done = (
        two.prompt(),
        two.spent(5_000, 0),
        account(two, cents=1, tokens=(5_000, 0, 0, 0), seconds=9),
    )
    told_of = (
        seen(*lost, one.terminated()),
        elapsed(9_000),
        bound("sesn_2", 9_000),
        seen(*done, two.idle()),
    )
    state, found = told(*BEGUN, *told_of)
    assert [line.micro_usd for _, line in found] == [20_000, 200, 10_000, 200]
    assert (state.cost_usd, state.billed_usd) == (0.0304, 0.03)


def test_a_session_from_before_the_ledger_brings_forward_what_it_had_cost() -> None:
    old = fold(events_of(SESSIONS / "v0.1" / "completed.jsonl"))
    assert old.ledger is None
    wire = Wire("new", second=1_000)
    said = (
        wire.prompt("again"),
        wire.spent(1_000, 0),
        account(wire, cents=3, tokens=(1_010, 5, 0, 0)),
        wire.idle(),
    )
    state, events = old, list[Event]()
    for input in (turn("t9", "again", second=900), seen(*said)):
        decision = decide(state, input, POLICY)
        state, events = decision.state, [*events, *decision.events]
    found = lines(tuple(events))
    assert (found[0][0], found[0][1].kind, found[0][1].micro_usd) == (
        None,
        "brought_forward",
        30_000,
    )
    assert [(turn_id, line.kind, line.micro_usd) for turn_id, line in found[1:]] == [
        ("t9", "request", 2_000),
        ("t9", "running", 0),
    ]
    assert state.cost_usd == 0.032


@for_all(random_histories(), st.booleans())
@settings(deadline=None, max_examples=150)
def test_every_dollar_is_a_turns_or_the_sessions_own(
    inputs: tuple[Input, ...], priced: bool
) -> None:
    begun = (turn("t0"), bound())  # before, nothing that a provider session says is the session's
    events = history(*begun, *inputs, policy=POLICY if priced else Policy())
    found = lines(events)
    state = fold(events, initial(TENANT, SESSION))
    assert round(state.cost_usd * 1e6) == sum(line.micro_usd for _, line in found)
    for event in events:
        if event.type in ("turn.completed", "turn.failed", "turn.refused", "turn.interrupted"):
            cost = msgspec.json.decode(event.data)["cost_usd"]
            mine = sum(line.micro_usd for turn_id, line in found if turn_id == event.turn_id)
            assert round(cost * 1e6) == mine
    keys = [(line.kind, line.source) for _, line in found if line.kind == "request"]
    assert len(keys) == len(set(keys)), "a request has one line"


TOKENS = st.tuples(*[st.integers(0, 200_000)] * 4)


@for_all(
    st.lists(st.tuples(TOKENS, st.integers(0, 3_000_000), st.booleans()), min_size=1, max_size=12)
)
@settings(deadline=None, max_examples=150)
def test_ledger_and_bill_agree_within_a_cent_at_rest(
    requests: list[tuple[tuple[int, int, int, int], int, bool]],
) -> None:
    """`bill` reckons by itself, in thousandths of a micro-dollar. Some spans never come."""
    wire, said = Wire(), list[ProviderEvent]()
    total, active, nano = [0, 0, 0, 0], 0, 0
    for tokens, milliseconds, comes in requests:
        total = [a + b for a, b in zip(total, tokens, strict=True)]
        active += milliseconds
        into, out, read, written = tokens
        nano += into * 2_000 + out * 10_000 + read * 200 + written * 4_000
        if comes:
            more = {"cache_read_input_tokens": read, "cache_creation_input_tokens": written}
            said.append(wire.spent(into, out, **more))
        bill = nano + active * 80_000_000 // 3_600_000
        cents = (bill + 5_000_000) // 10_000_000
        counts = (total[0], total[1], total[2], total[3])
        said.append(
            account(wire, cents=cents, tokens=counts, hour=total[3], seconds=active / 1_000)
        )
    state, _ = told(*BEGUN, seen(wire.prompt(), *said, wire.idle()))
    assert abs(state.cost_usd - state.billed_usd) <= 0.01
    assert abs(state.cost_usd * 1e6 - bill / 1_000) < 100, (
        "and with the truth to a hundredth of a cent"
    )
