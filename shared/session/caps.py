"""Caps: how much a tenant, a user or a session may cost in all, or in a calendar month (UTC). Pure.

A turn reserves before its message goes out and settles with the lines of the ledger; the store keeps both in the
transaction that writes the session's row. What is reserved is a guess, so a turn is let through when it fits, or
when nobody else runs under the cap and something is left: the cap is overspent by one turn at most, as long as no
turn costs more than it reserved.
"""

from __future__ import annotations

from collections.abc import Iterable
from datetime import UTC, datetime
from typing import Literal

from msgspec import Struct

Scope = Literal["session", "user", "tenant"]
Period = Literal["all", "month"]
SCOPES: tuple[Scope, ...] = ("session", "user", "tenant")
PERIODS: tuple[Period, ...] = ("all", "month")
# A cap on each user or each session of its tenant.
EACH = "*"
# Why a turn is refused, and why one waits: what is left is reserved by turns that run.
CAP_REACHED, CAP_RESERVED = "cap_reached", "cap_reserved"


# What a turn holds until it ends, in millionths of a US dollar, also when it has cost more than it reserved: nobody
# knows what it will come to, so another begins only where all that it reserves itself is left.
RUNS = 1


class Cap(Struct, frozen=True, kw_only=True):
    """At most `limit` millionths of a US dollar. `who` is a user's or a session's id, or EACH; "" for the tenant.
    `set_at` is in seconds since the epoch, by the database's clock."""

    tenant_id: str
    scope: Scope
    who: str
    period: Period
    limit: int
    set_at: float = 0.0


class Spender(Struct, frozen=True, kw_only=True):
    """Who a turn is paid by."""

    tenant_id: str
    user_id: str
    session_id: str

    def named(self, scope: Scope) -> str:
        """Its id in that scope."""
        return {"session": self.session_id, "user": self.user_id, "tenant": ""}[scope]


class Account(Struct, frozen=True, kw_only=True):
    """How a cap stands for `who`, in millionths of a US dollar; `dearest` is the dearest turn seen under it."""

    cap: Cap
    who: str
    spent: int
    reserved: int
    dearest: int


class Refusal(Struct, frozen=True, kw_only=True):
    """No turn may begin now. `waits`: something is left, but turns that run have reserved it."""

    account: Account
    waits: bool


def applying(caps: Iterable[Cap], spender: Spender) -> tuple[Cap, ...]:
    """The caps that a turn of this spender counts against: one of its own goes before one on each."""
    found: dict[tuple[Scope, Period], Cap] = {}
    for cap in caps:
        named = spender.named(cap.scope)
        place = (cap.scope, cap.period)
        if cap.who == named or (cap.who == EACH and named and place not in found):
            found[place] = cap
    return tuple(found[place] for place in sorted(found))


def key_of(period: Period, at: float) -> str:
    """What an account's period is called: `all`, or the month `2026-11`, by seconds since the epoch."""
    return "all" if period == "all" else datetime.fromtimestamp(at, UTC).strftime("%Y-%m")


def resets_at(period: Period, at: float) -> str | None:
    """When the next month begins; None for a cap without months."""
    if period == "all":
        return None
    now = datetime.fromtimestamp(at, UTC)
    year, month = (now.year + 1, 1) if now.month == 12 else (now.year, now.month + 1)
    return f"{year:04}-{month:02}-01T00:00:00Z"


def admit(accounts: Iterable[Account], least: int) -> int | Refusal:
    """What a turn reserves (`least`, or as much as the dearest seen), or why it may not begin."""
    accounts = tuple(accounts)
    reserves = max(least, *(account.dearest for account in accounts), RUNS)
    for account in accounts:
        if account.spent >= account.cap.limit:
            return Refusal(account=account, waits=False)
    for account in accounts:
        if account.reserved and account.spent + account.reserved + reserves > account.cap.limit:
            return Refusal(account=account, waits=True)
    return reserves


def words(refusal: Refusal, at: float) -> str:
    """The refusal as a client reads it: which cap, how it stands, when it resets."""
    account = refusal.account
    cap = account.cap
    whose = "the tenant" if cap.scope == "tenant" else f"{cap.scope} {account.who}"
    span = "in this month" if cap.period == "month" else "in all"
    resets = resets_at(cap.period, at)
    then = f"it resets at {resets}" if resets else "it does not reset, an operator can raise it"
    how = "is reserved" if refusal.waits else "is reached"
    return (
        f"the cap of {usd(cap.limit)} {span} on {whose} {how}: {usd(account.spent)} spent, "
        f"{usd(account.reserved)} reserved by turns that run; {then}"
    )


def usd(micro_usd: int) -> str:
    """Millionths of a dollar as dollars, two digits or as many as it takes."""
    whole = f"{micro_usd / 1e6:.6f}".rstrip("0")
    head, _, tail = whole.partition(".")
    return f"${head}.{tail:0<2}"
