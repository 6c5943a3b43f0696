"""The table of caps, which the operator writes, and how caps stand by the workers' tables."""

from __future__ import annotations

from typing import Any

import msgspec
from sqlalchemy import delete, select
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.ext.asyncio import AsyncConnection

from services.operator.database import engine_on
from shared.session.caps import EACH, key_of, resets_at
from shared.tables.caps import CAP_ACCOUNTS, CAPS, reserved_under, spent_in_ledger
from shared.tables.clock import Now

# Of a cap on each, those who have spent most are listed.
MOST_SHOWN = 20
KEY = ("tenant_id", "scope", "who", "period")


class Standing(msgspec.Struct, kw_only=True):
    """One cap, or a cap on each as it stands for one. US dollars."""

    tenant_id: str
    scope: str
    who: str
    period: str
    limit_usd: float
    spent_usd: float
    reserved_usd: float
    resets_at: str | None


async def put(url: str, key: dict[str, str], limit: int) -> None:
    """Set a cap of so many millionths of a US dollar, or give one another limit."""
    row = {**key, "limit_micro_usd": limit, "set_at": Now()}
    async with engine_on(url) as engine, engine.begin() as connection:
        dialect = postgresql if engine.dialect.name == "postgresql" else sqlite
        made = dialect.insert(CAPS).values(row)
        changed = made.on_conflict_do_update(
            index_elements=list(KEY), set_={"limit_micro_usd": limit}
        )
        await connection.execute(changed)


async def remove(url: str, key: dict[str, str]) -> bool:
    """Remove a cap, and the accounts under it; returns whether there was one."""
    async with engine_on(url) as engine, engine.begin() as connection:
        same = [CAPS.c[name] == value for name, value in key.items()]
        gone = (await connection.execute(delete(CAPS).where(*same))).rowcount == 1
        accounts = delete(CAP_ACCOUNTS).where(
            CAP_ACCOUNTS.c.tenant_id == key["tenant_id"],
            CAP_ACCOUNTS.c.scope == key["scope"],
            *([] if key["who"] == EACH else [CAP_ACCOUNTS.c.who == key["who"]]),
            (CAP_ACCOUNTS.c.period == "all") == (key["period"] == "all"),
        )
        if gone:
            await connection.execute(accounts)
    return gone


async def standing(url: str, tenant: str) -> list[Standing]:
    """All caps, or those of a tenant; one on each is followed by those who have spent most under it."""
    query = select(CAPS).order_by(*(CAPS.c[name] for name in KEY))
    if tenant:
        query = query.where(CAPS.c.tenant_id == tenant)
    found: list[Standing] = []
    async with engine_on(url) as engine, engine.connect() as connection:
        now = float((await connection.execute(select(Now()))).scalar_one())
        for cap in (await connection.execute(query)).all():
            found.append(await _stands(connection, cap, cap.who, now))
            if cap.who == EACH:
                whos = await _spenders(connection, cap, now)
                found += [await _stands(connection, cap, who, now) for who in whos]
    return found


async def _spenders(connection: AsyncConnection, cap: Any, now: float) -> list[str]:
    query = (
        select(CAP_ACCOUNTS.c.who)
        .where(
            CAP_ACCOUNTS.c.tenant_id == cap.tenant_id,
            CAP_ACCOUNTS.c.scope == cap.scope,
            CAP_ACCOUNTS.c.period == key_of(cap.period, now),
        )
        .order_by(CAP_ACCOUNTS.c.spent_micro_usd.desc(), CAP_ACCOUNTS.c.who)
        .limit(MOST_SHOWN)
    )
    return list((await connection.execute(query)).scalars())


async def _stands(connection: AsyncConnection, cap: Any, who: str, now: float) -> Standing:
    """Of a cap on each, what all of them have spent and reserved."""
    scope = "tenant" if who == EACH else cap.scope
    whose = (cap.tenant_id, scope, who)
    spent = await connection.scalar(spent_in_ledger(*whose, key_of(cap.period, now)))
    reserved = await connection.scalar(reserved_under(*whose))
    return Standing(
        tenant_id=cap.tenant_id,
        scope=cap.scope,
        who=who,
        period=cap.period,
        limit_usd=cap.limit_micro_usd / 1e6,
        spent_usd=int(spent or 0) / 1e6,
        reserved_usd=int(reserved or 0) / 1e6,
        resets_at=resets_at(cap.period, now),
    )
