"""How fast and for how much a rerun goes on."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.operator.reruns.bounds import Pace, RunBudget

pytestmark = pytest.mark.unit


@given(
    rate=st.floats(1, 600),
    looks=st.lists(st.floats(0.01, 5), min_size=1, max_size=200),
)
def test_in_no_stretch_of_time_are_there_more_turns_than_the_rate_gives(
    rate: float, looks: list[float]
) -> None:
    pace, now, sent = Pace(rate), 0.0, list[float]()
    for step in looks:
        now += step
        if pace.allows(now):
            sent.append(now)
    for first, began in enumerate(sent):
        for last, ended in enumerate(sent[first:], first):
            # One more at each end of the stretch.
            assert last - first + 1 <= (ended - began) * rate / 60 + 2 + 1e-6


def test_a_pace_asked_a_little_late_keeps_the_rate() -> None:
    pace = Pace(60)
    assert [at for at in (0.0, 0.5, 1.3, 2.1, 2.9, 3.05) if pace.allows(at)] == [0, 1.3, 2.1, 3.05]


def test_what_is_set_aside_is_three_times_the_record_in_whole_cents() -> None:
    budget = RunBudget(1.0)
    assert budget.open("a", 0.111) == 0.33
    assert budget.left == pytest.approx(0.67)
    assert budget.open("b", 0.0) == 0.05


def test_a_session_gets_less_when_less_is_left_and_nothing_when_it_would_not_pay() -> None:
    budget = RunBudget(0.5)
    assert budget.open("a", 0.1) == 0.3
    assert budget.open("b", 0.1) == 0.2
    assert budget.open("c", 0.0) is None
    budget.pay("a", 0.04)
    budget.close("a")
    assert budget.left == pytest.approx(0.26)
    assert budget.open("c", 0.3) is None
    assert budget.open("c", 0.2) == 0.26


def test_a_session_that_used_its_own_up_gets_no_more_turns() -> None:
    budget = RunBudget(1.0)
    budget.open("a", 0.1)
    budget.pay("a", 0.29)
    assert budget.lasts("a")
    budget.pay("a", 0.30)
    assert not budget.lasts("a")


@given(
    limit=st.floats(0.01, 100),
    costs=st.lists(st.tuples(st.floats(0, 20), st.floats(0, 1)), max_size=50),
)
def test_whatever_sessions_cost_within_theirs_the_limit_holds(
    limit: float, costs: list[tuple[float, float]]
) -> None:
    """`costs`: the record's, and which share of what was set aside the session uses."""
    budget = RunBudget(limit)
    for number, (recorded, share) in enumerate(costs):
        given = budget.open(str(number), recorded)
        if given is None:
            continue
        assert given >= recorded
        budget.pay(str(number), given * share)
        if number % 2:
            budget.close(str(number))
        assert budget.spent <= limit + 1e-9
        assert budget.left >= -1e-9
