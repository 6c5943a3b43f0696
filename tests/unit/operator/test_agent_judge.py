"""When a canary is rolled back, and when it stays."""

from __future__ import annotations

import pytest

from services.operator.agents.judge import Bounds, Cause, Figures, judge

pytestmark = pytest.mark.unit
OLD = Figures(turns=1_000, failed=20, cost_usd=0.01, p95_seconds=10.0)


def said(new: Figures, old: Figures = OLD, bounds: Bounds | None = None) -> Cause | None:
    return judge({2: new, 1: old}, 2, 1, bounds or Bounds()).cause


@pytest.mark.parametrize(
    ("new", "cause"),
    [
        (Figures(100, 2, 0.01, 10.0), None),
        (Figures(100, 15, 0.01, 10.0), "errors"),
        (Figures(100, 2, 0.0151, 10.0), "cost"),
        (Figures(100, 2, 0.01, 15.1), "latency"),
        (Figures(100, 2, 0.0149, 14.9), None),
        (Figures(100, 0, 0.001, 1.0), None),
        (Figures(49, 49, 9.0, 900.0), None),  # too few to judge by
    ],
)
def test_worse_beyond_a_bound_is_rolled_back(new: Figures, cause: Cause | None) -> None:
    assert said(new) == cause


def test_a_difference_that_may_be_chance_is_none() -> None:
    few = Bounds(turns=10, errors=5.0)
    assert said(Figures(10, 1, 0.01, 10.0), Figures(50, 1, 0.01, 10.0), few) is None
    assert said(Figures(200, 20, 0.01, 10.0), Figures(1_000, 20, 0.01, 10.0), few) == "errors"


def test_without_enough_to_compare_with_only_a_hopeless_canary_is_rolled_back() -> None:
    nothing = Figures()
    assert said(Figures(50, 20, 9.0, 900.0), nothing) is None
    assert said(Figures(50, 26, 0.01, 1.0), nothing) == "errors"


def test_a_version_nobody_has_seen_stays() -> None:
    assert judge({}, 2, 1, Bounds()).cause is None


def test_the_words_have_both_sides() -> None:
    words = judge({2: Figures(100, 15, 0.01, 10.0), 1: OLD}, 2, 1, Bounds()).words
    assert words == "15.0 % of turns fail, 2.0 % of version 1"
