"""Judges the money of a run: the ledger in SQL, the ledger in ClickHouse, what the gateway shows, the provider's
bill, and what was spent under caps. Sums are in millionths of a US dollar."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from shared.session.caps import Cap, Spender, applying
from tests.chaos.evidence import Finding

CENT = 10_000


@dataclass(frozen=True, slots=True)
class Line:
    """A line of the ledger; `turn_id` is "" for what is the session's own, `month` as in `2026-11`."""

    tenant_id: str
    session_id: str
    user_id: str
    turn_id: str
    provider_session_id: str
    month: str
    micro_usd: int


@dataclass(frozen=True, slots=True)
class Looked:
    """What was spent while a cap stood at its limit; `period` is `all` or a month."""

    cap: Cap
    period: str
    spent: int


@dataclass(frozen=True, slots=True)
class Money:
    """At rest. `archived` and `bill` are sums by provider session, `shown` by session. `accounts`: what those of
    caps say was spent, by scope, who and period. `reserved`: rows left. `leaked`: provider sessions that are
    nobody's, in words; `alive`: those that were not closed though every session was archived."""

    lines: Sequence[Line] = ()
    archived: Mapping[str, int] = field(default_factory=dict)
    bill: Mapping[str, float] = field(default_factory=dict)
    shown: Mapping[str, int] = field(default_factory=dict)
    caps: Sequence[Cap] = ()
    looked: Sequence[Looked] = ()
    accounts: Mapping[tuple[str, str, str], int] = field(default_factory=dict)
    reserved: Sequence[str] = ()
    leaked: Sequence[str] = ()
    alive: Sequence[str] = ()


def judge_money(money: Money) -> list[Finding]:
    """All that does not add up."""
    return [
        *(Finding("money", "all", text) for text in _wrong_sums(money)),
        *(Finding("caps", "all", text) for text in _wrong_caps(money)),
        *(Finding("leaked", "all", text) for text in (*money.leaked, *money.alive)),
    ]


def figures(money: Money) -> dict[str, Any]:
    """For the report."""
    ledger = _by_provider_session(money)
    over = [spent - cap.limit for (cap, _, _), (spent, _) in _accounts(money).items()]
    over += [looked.spent - looked.cap.limit for looked in money.looked]
    differ = [abs(ledger.get(one, 0) - billed) for one, billed in money.bill.items()]
    return {
        "provider sessions": len(money.bill),
        "ledger in SQL, micro-dollars": sum(ledger.values()),
        "ledger in ClickHouse, micro-dollars": sum(money.archived.values()),
        "provider's bill, micro-dollars": round(sum(money.bill.values()), 3),
        "most between bill and ledger of a provider session": round(max(differ, default=0.0), 3),
        "small caps looked at": len(money.looked),
        "most beyond a cap, micro-dollars": max([0, *over]),
        "dearest turn under a cap": max([0, *(d for _, d in _accounts(money).values())]),
        "reservations left": len(money.reserved),
    }


def _wrong_sums(money: Money) -> Iterator[str]:
    ledger = _by_provider_session(money)
    for one in sorted({*ledger, *money.archived}):
        if ledger[one] != money.archived.get(one, 0):
            yield f"{one}: {ledger[one]} micro-dollars in SQL, {money.archived.get(one, 0)} in ClickHouse"
    for one in sorted({*ledger, *money.bill}):
        if abs(ledger[one] - money.bill.get(one, 0.0)) >= CENT:
            yield f"{one}: {ledger[one]} micro-dollars in the ledger, {money.bill.get(one, 0.0):.3f} billed"
    by_session = Counter[str]()
    for line in money.lines:
        by_session[line.session_id] += line.micro_usd
    for session, shown in money.shown.items():
        if shown != by_session[session]:
            yield f"{session}: {by_session[session]} micro-dollars in the ledger, GET shows {shown}"


def _wrong_caps(money: Money) -> Iterator[str]:
    accounts = _accounts(money)
    for (cap, who, period), (spent, dearest) in accounts.items():
        kept = money.accounts.get((cap.scope, who, period), 0)
        if kept != spent:
            yield f"{cap.scope} {who} {period}: the account says {kept} micro-dollars, the ledger {spent}"
        if spent - cap.limit > dearest:
            yield f"{cap.scope} {who} {period}: {_beyond(spent, cap.limit, dearest)}"
    for looked in money.looked:
        # Another limit is another Cap: the account is found by what it is a cap on.
        same = (
            d
            for (c, _, p), (_, d) in accounts.items()
            if _place(c) == _place(looked.cap) and p == looked.period
        )
        dearest = next(same, 0)
        if looked.spent - looked.cap.limit > dearest:
            yield f"{looked.cap.scope} {looked.cap.who}: {_beyond(looked.spent, looked.cap.limit, dearest)}"
    yield from (f"left reserved: {one}" for one in money.reserved)


def _beyond(spent: int, limit: int, dearest: int) -> str:
    return f"{spent} spent of {limit} micro-dollars; the dearest turn cost {dearest}"


def _place(cap: Cap) -> tuple[str, str, str]:
    return cap.scope, cap.who, cap.period


def _by_provider_session(money: Money) -> Counter[str]:
    found = Counter[str]()
    for line in money.lines:
        found[line.provider_session_id] += line.micro_usd
    return found


def _accounts(money: Money) -> dict[tuple[Cap, str, str], tuple[int, int]]:
    """What was spent under each cap, by whom and when, and the dearest turn there, by the ledger alone."""
    spent = Counter[tuple[Cap, str, str]]()
    turns: dict[tuple[Cap, str, str], Counter[tuple[str, str]]] = defaultdict(Counter)
    for line in money.lines:
        spender = Spender(
            tenant_id=line.tenant_id, user_id=line.user_id, session_id=line.session_id
        )
        for cap in applying(money.caps, spender):
            account = cap, spender.named(cap.scope), "all" if cap.period == "all" else line.month
            spent[account] += line.micro_usd
            if line.turn_id:
                turns[account][line.session_id, line.turn_id] += line.micro_usd
    return {one: (total, max(turns[one].values(), default=0)) for one, total in spent.items()}
