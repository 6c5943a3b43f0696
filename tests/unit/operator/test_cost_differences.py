"""What explains a difference between the provider's report and the ledger."""

from __future__ import annotations

from typing import Any

import pytest

from services.operator.audits.cost_report import CostReport
from services.operator.costs.differences import OfLedger, differences

pytestmark = pytest.mark.unit
CENT = 10_000


def report(**cents: str) -> CostReport:
    found = CostReport()
    for session, amount in cents.items():
        found.add(session, amount, amount)
    return found


def parts(reported: str, ledger: int, **more: Any) -> dict[str, int]:
    """Why a session of so many cents and so many millionths of a dollar differs."""
    of_ledger = OfLedger("acme", "ses_1", ledger, **more)
    found = differences(report(sesn_1=reported), {"sesn_1": of_ledger}, ())
    assert sum(sum(one.parts.values()) for one in found) == sum(
        one.reported - one.ledger for one in found
    )
    return {str(reason): amount for one in found for reason, amount in one.parts.items()}


@pytest.mark.parametrize(
    ("reported", "ledger", "more", "why"),
    [
        ("100", 100 * CENT, {}, {}),
        ("100.00004", 100 * CENT, {}, {}),
        ("100.5", 100 * CENT, {}, {"rounding": 5_000}),
        ("99", 100 * CENT, {}, {"rounding": -CENT}),
        ("102", 100 * CENT, {}, {"unexplained": 2 * CENT}),
        ("97", 100 * CENT, {"estimated": 5 * CENT}, {"estimate": -3 * CENT}),
        ("103", 100 * CENT, {"estimated": 5 * CENT}, {"estimate": 3 * CENT}),
        ("90", 100 * CENT, {"late": 20 * CENT}, {"not_reported_yet": -10 * CENT}),
        ("70", 100 * CENT, {"late": 20 * CENT},
         {"not_reported_yet": -20 * CENT, "unexplained": -10 * CENT}),
        ("110", 100 * CENT, {"late": 20 * CENT}, {"unexplained": 10 * CENT}),
        ("110", 100 * CENT, {"after": 10 * CENT}, {"at_the_edge": 10 * CENT}),
        ("90", 100 * CENT, {"first": 30 * CENT}, {"at_the_edge": -10 * CENT}),
        ("150", 100 * CENT, {"brought": 50 * CENT}, {"before_the_ledger": 50 * CENT}),
        ("79.5", 100 * CENT, {"late": 15 * CENT, "estimated": 5 * CENT},
         {"not_reported_yet": -15 * CENT, "estimate": -5 * CENT, "rounding": -5_000}),
    ],
)  # fmt: skip
def test_a_difference_is_taken_apart(
    reported: str, ledger: int, more: dict[str, int], why: dict[str, int]
) -> None:
    assert parts(reported, ledger, **more) == why


def test_a_session_that_only_one_side_has_is_told_apart() -> None:
    ledger = {
        "sesn_late": OfLedger("acme", "a", 50 * CENT, late=50 * CENT),
        "sesn_gone": OfLedger("acme", "b", 50 * CENT),
        "sesn_small": OfLedger("acme", "c", 50),
        "sesn_nothing": OfLedger("acme", "d"),
    }
    found = differences(report(sesn_theirs="7", sesn_ours="8"), ledger, {"sesn_ours"})
    assert {one.provider_session: one.parts for one in found} == {
        "sesn_theirs": {"not_ours": 7 * CENT},
        "sesn_ours": {"unexplained": 8 * CENT},
        "sesn_late": {"not_reported_yet": -50 * CENT},
        "sesn_gone": {"unexplained": -50 * CENT},
        "sesn_small": {"rounding": -50},
    }
    assert [one.provider_session for one in found if not one.explained] == [
        "sesn_gone",
        "sesn_ours",
    ]


def test_reports_of_two_times_add_up() -> None:
    first, second = report(a="1", b="2"), report(b="3")
    second.refreshed_at = "2026-11-30T00:00:00Z"
    first.join(second)
    assert {name: int(amount) for name, amount in first.listed.items()} == {
        "a": CENT,
        "b": 5 * CENT,
    }
    assert first.billed == 6 * CENT
    assert first.refreshed_at == "2026-11-30T00:00:00Z"
