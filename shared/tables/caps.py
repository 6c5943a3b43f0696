"""Tables of caps. `worker_caps` is the operator's, who sets them; agent-workers read it.

The others are the workers'. `worker_cap_accounts` is what was spent under a cap by whom and in which month; it is
counted from `worker_ledger` when it is made, and added to in the transaction that adds to the ledger.
`worker_reservations` is one row for each turn that runs under a cap: what it is still expected to cost.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from sqlalchemy import (
    BigInteger,
    ColumnElement,
    Double,
    Select,
    Table,
    and_,
    case,
    exists,
    func,
    or_,
    select,
)
from sqlmodel import Field, SQLModel

from shared.session.caps import EACH, key_of
from shared.tables.worker import LEDGER, METADATA


class CapRow(SQLModel, table=True):
    """One cap: see `shared.session.caps.Cap`."""

    __tablename__ = "worker_caps"
    metadata = METADATA

    tenant_id: str = Field(primary_key=True, max_length=128)
    scope: str = Field(primary_key=True, max_length=16)
    who: str = Field(primary_key=True, max_length=128)
    period: str = Field(primary_key=True, max_length=16)
    limit_micro_usd: int = Field(sa_type=BigInteger)
    set_at: float = Field(sa_type=Double)


class CapAccountRow(SQLModel, table=True):
    """What was spent; `period` is `all` or a month. `counted_at` is when it was counted from the ledger last, in
    seconds since the epoch; 0: not yet."""

    __tablename__ = "worker_cap_accounts"
    metadata = METADATA

    tenant_id: str = Field(primary_key=True, max_length=128)
    scope: str = Field(primary_key=True, max_length=16)
    who: str = Field(primary_key=True, max_length=128)
    period: str = Field(primary_key=True, max_length=16)
    spent_micro_usd: int = Field(sa_type=BigInteger)
    dearest_micro_usd: int = Field(sa_type=BigInteger)
    counted_at: float = Field(sa_type=Double)


class ReservationRow(SQLModel, table=True):
    """What the open turn of a session has reserved and not been charged yet."""

    __tablename__ = "worker_reservations"
    metadata = METADATA

    tenant_id: str = Field(primary_key=True, max_length=128)
    session_id: str = Field(primary_key=True, max_length=128)
    turn_id: str = Field(max_length=128)
    user_id: str = Field(max_length=128)
    left_micro_usd: int = Field(sa_type=BigInteger)


CAPS: Table = METADATA.tables["worker_caps"]
CAP_ACCOUNTS: Table = METADATA.tables["worker_cap_accounts"]
RESERVATIONS: Table = METADATA.tables["worker_reservations"]


def spent_in_ledger(tenant_id: str, scope: str, who: str, period: str) -> Select[Any]:
    """What the ledger has for `who` in that period, in millionths of a US dollar. What was brought forward was
    spent before there was a ledger: it counts in no month."""
    total = func.coalesce(func.sum(LEDGER.c.micro_usd), 0)
    query = select(total).where(_of_scope(LEDGER, tenant_id, scope, who))
    if period == "all":
        return query
    month = func.substr(LEDGER.c.at, 1, 7) == period
    return query.where(month, LEDGER.c.kind != "brought_forward")


def reserved_under(tenant_id: str, scope: str, who: str) -> Select[Any]:
    """What turns that run are still expected to cost."""
    total = func.coalesce(func.sum(RESERVATIONS.c.left_micro_usd), 0)
    return select(total).where(_of_scope(RESERVATIONS, tenant_id, scope, who))


def standing(now: float, marks: Sequence[int]) -> Select[Any]:
    """How many accounts of caps stand at each mark (in percent of their limit) or above in their present period, as
    `at_<mark>`, by scope and period. Who has a cap of its own does not count for one on each."""
    each = and_(CAPS.c.who == EACH, ~_has_own(CAPS, CAP_ACCOUNTS))
    current = case((CAPS.c.period == "all", "all"), else_=key_of("month", now))
    spent, limit = CAP_ACCOUNTS.c.spent_micro_usd, CAPS.c.limit_micro_usd
    counts = (
        func.sum(case((spent * 100 >= limit * mark, 1), else_=0)).label(f"at_{mark}")
        for mark in marks
    )
    same = and_(
        CAP_ACCOUNTS.c.tenant_id == CAPS.c.tenant_id,
        CAP_ACCOUNTS.c.scope == CAPS.c.scope,
        CAP_ACCOUNTS.c.period == current,
        or_(CAP_ACCOUNTS.c.who == CAPS.c.who, each),
    )
    return (
        select(CAPS.c.scope, CAPS.c.period, *counts)
        .join_from(CAPS, CAP_ACCOUNTS, same)
        .where(CAP_ACCOUNTS.c.counted_at > 0)
        .group_by(CAPS.c.scope, CAPS.c.period)
    )


def _has_own(caps: Table, accounts: Table) -> ColumnElement[bool]:
    own = caps.alias("own")
    return exists().where(
        own.c.tenant_id == caps.c.tenant_id,
        own.c.scope == caps.c.scope,
        own.c.period == caps.c.period,
        own.c.who == accounts.c.who,
    )


def _of_scope(rows: Table, tenant_id: str, scope: str, who: str) -> ColumnElement[bool]:
    """The rows, of the ledger or of reservations, that count for `who` in that scope."""
    whose = rows.c.tenant_id == tenant_id
    if scope == "tenant":
        return whose
    return and_(whose, rows.c[f"{scope}_id"] == who)
