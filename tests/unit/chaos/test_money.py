"""The judge of money finds each sum that differs, each cap that was passed, and what was left behind."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from shared.session.caps import Cap
from tests.chaos.money import CENT, Line, Looked, Money, figures, judge_money

pytestmark = pytest.mark.unit

CAP = Cap(tenant_id="local", scope="user", who="u1", period="month", limit=100)
EACH = Cap(tenant_id="local", scope="session", who="*", period="all", limit=1_000)


def line(turn: str, micro_usd: int, session: str = "s1") -> Line:
    return Line("local", session, "u1", turn, f"sesn_{session}", "2026-11", micro_usd)


GOOD = Money(
    lines=[line("t1", 60), line("t2", 70), line("", 5), line("t9", 20, "s2")],
    archived={"sesn_s1": 135, "sesn_s2": 20},
    bill={"sesn_s1": 134.5, "sesn_s2": 20.0, "sesn_unused": 0.0},
    shown={"s1": 135, "s2": 20},
    caps=[CAP, EACH],
    looked=[Looked(EACH, "all", 0)],
    accounts={
        ("user", "u1", "2026-11"): 155,
        ("session", "s1", "all"): 135,
        ("session", "s2", "all"): 20,
    },
)


def test_sums_that_agree_have_no_findings() -> None:
    assert judge_money(GOOD) == []
    assert figures(GOOD)["most between bill and ledger of a provider session"] == 0.5
    assert figures(GOOD)["most beyond a cap, micro-dollars"] == 55


@pytest.mark.parametrize(
    ("changes", "kind", "words"),
    [
        ({"archived": {"sesn_s1": 134, "sesn_s2": 20}}, "money", "in ClickHouse"),
        ({"bill": {**GOOD.bill, "sesn_s2": 20.0 + CENT}}, "money", "billed"),
        ({"bill": {**GOOD.bill, "sesn_unused": CENT}}, "money", "billed"),
        ({"shown": {"s1": 136}}, "money", "GET shows"),
        ({"accounts": {**GOOD.accounts, ("user", "u1", "2026-11"): 156}}, "caps", "account says"),
        ({"looked": [Looked(CAP, "2026-11", 171)]}, "caps", "171 spent of 100"),
        ({"reserved": ["5 for t1 of s1"]}, "caps", "left reserved"),
        ({"leaked": ["sesn_9 of s1"]}, "leaked", "sesn_9"),
        ({"alive": ["sesn_8: not closed"]}, "leaked", "sesn_8"),
    ],
)
def test_what_does_not_add_up_is_told(changes: dict[str, Any], kind: str, words: str) -> None:
    (finding,) = judge_money(replace(GOOD, **changes))
    assert finding.kind == kind
    assert words in finding.detail


def test_a_cap_is_passed_by_one_turn_at_most() -> None:
    lines = [*GOOD.lines, line("t3", 16)]
    sums: dict[str, Any] = {
        "lines": lines,
        "archived": {"sesn_s1": 151, "sesn_s2": 20},
        "shown": {},
        "accounts": {
            **GOOD.accounts,
            ("user", "u1", "2026-11"): 171,
            ("session", "s1", "all"): 151,
        },
    }
    (finding,) = judge_money(replace(GOOD, **sums))
    assert "171 spent of 100 micro-dollars; the dearest turn cost 70" in finding.detail
