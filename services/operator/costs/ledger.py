"""The ledger in SQL by provider session, that of erased sessions too. Read only."""

from __future__ import annotations

from collections.abc import Collection
from datetime import datetime, timedelta
from typing import Any

from sqlalchemy import ColumnElement, and_, case, func
from sqlmodel import col, select

from services.operator.audits.cost_report import KINDS
from services.operator.costs.differences import OfLedger
from services.operator.database import engine_on
from shared.moment import normal, rfc3339
from shared.session import provider
from shared.session.key import SessionKey
from shared.tables.gateway import SessionRow
from shared.tables.worker import HeadRow, LedgerRow

# Running time is charged when its account comes, requests when they are accounted for: seldom later than this.
EDGE = timedelta(hours=1)
BROUGHT = "brought_forward"
SUMS = ("micro_usd", "estimated", "late", "after", "first", "brought")


async def read_ledger(
    url: str, since: datetime, until: datetime, refreshed_at: str
) -> dict[str, OfLedger]:
    """What was charged from `since` on and before `until`, by provider session, with what may explain differences.
    `refreshed_at`: see CostReport. Raises what SQLAlchemy raises."""
    async with engine_on(url) as engine, engine.connect() as connection:
        erased = {
            (row.tenant_id, row.session_id)
            for row in await connection.execute(
                select(SessionRow.tenant_id, SessionRow.session_id).where(
                    SessionRow.status == "erased"
                )
            )
        }
        rows = (await connection.execute(_query(since, until, refreshed_at))).all()
    return {
        row.provider_session_id: OfLedger(
            tenant=row.tenant_id,
            session=row.session_id,
            **{name: int(getattr(row, name)) for name in SUMS},
            tokens=tuple(int(getattr(row, name)) for name in KINDS),
            erased=(row.tenant_id, row.session_id) in erased,
        )
        for row in rows
    }


async def known(url: str, keys: Collection[SessionKey]) -> set[SessionKey]:
    """Those of the sessions that a worker has."""
    found: set[SessionKey] = set()
    async with engine_on(url) as engine, engine.connect() as connection:
        for key in keys:
            its = HeadRow.tenant_id == key[0], HeadRow.session_id == key[1]
            if (await connection.execute(select(HeadRow.version).where(*its))).first():
                found.add(key)
    return found


def _query(since: datetime, until: datetime, refreshed_at: str) -> Any:
    sums = _sums(since, until, refreshed_at)
    key = LedgerRow.provider_session_id, LedgerRow.tenant_id, LedgerRow.session_id
    at = col(LedgerRow.at)
    session = col(LedgerRow.provider_session_id)
    # The provider's report on sessions says nothing of conversations that are kept here.
    reported = session != "", ~session.startswith(provider.CONVERSATION, autoescape=True)
    near = at >= rfc3339(since), at < rfc3339(until + EDGE), *reported
    columns = [value.label(name) for name, value in sums.items()]
    return select(*key, *columns).where(*near).group_by(*key)


def _sums(since: datetime, until: datetime, refreshed_at: str) -> dict[str, ColumnElement[Any]]:
    """Sums over the lines of a provider session: SUMS, and the tokens by KINDS."""
    at, kind = col(LedgerRow.at), col(LedgerRow.kind)
    inside = and_(at < rfc3339(until), kind != BROUGHT)
    late = at > normal(refreshed_at) if refreshed_at else at > rfc3339(until)
    micro = col(LedgerRow.micro_usd)
    return {
        "micro_usd": _sum(micro, inside),
        "estimated": _sum(func.abs(micro), and_(inside, col(LedgerRow.estimate))),
        "late": _sum(micro, and_(inside, late)),
        "after": _sum(micro, and_(at >= rfc3339(until), kind != BROUGHT)),
        "first": _sum(micro, and_(inside, at < rfc3339(since + EDGE))),
        "brought": _sum(micro, and_(at < rfc3339(until), kind == BROUGHT)),
        **{name: _sum(col(getattr(LedgerRow, name)), inside) for name in KINDS},
    }


def _sum(value: Any, where: ColumnElement[bool]) -> ColumnElement[Any]:
    return func.coalesce(func.sum(case((where, value), else_=0)), 0)
