"""Reads, at rest, what SQL, ClickHouse, the gateway and the provider have of a run's money."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import timedelta

from anthropic import AsyncAnthropic
from sqlalchemy import select
from sqlalchemy.ext.asyncio import AsyncEngine

from infra.local.keys import SIMULATOR_KEY, TENANT
from services.operator.audits.inbox import Inbox
from services.operator.audits.orphan_search import orphans
from services.operator.audits.provider import Provider as Lists
from services.operator.database import engine_on
from shared.clock import utcnow
from shared.session.caps import Cap
from shared.tables.caps import CAP_ACCOUNTS, RESERVATIONS
from shared.tables.worker import LEDGER
from tests.chaos.archive import Archive
from tests.chaos.evidence import ProviderSession
from tests.chaos.gateway import Gateway
from tests.chaos.money import Line, Looked, Money

_DAY = timedelta(days=1)


async def read_money(
    database: str,
    archive: Archive,
    gateway: Gateway,
    provider: str,
    behind: Sequence[ProviderSession],
    sessions: Sequence[str],
    caps: tuple[Sequence[Cap], Sequence[Looked]],
) -> Money:
    """`database` and `provider` are URLs, `behind` all provider sessions, `sessions` our ids. Raises what
    SQLAlchemy, the SDK and httpx2 raise."""
    async with engine_on(database) as engine:
        accounts, reserved = await _caps(engine)
        return Money(
            lines=await _lines(engine),
            archived=await archive.ledger(),
            bill={one.id: one.bill for one in behind},
            shown={session: await gateway.cost(session) for session in sessions},
            caps=caps[0],
            looked=caps[1],
            accounts=accounts,
            reserved=reserved,
            leaked=await _leaked(engine, provider),
            alive=[f"{one.id}: not closed" for one in behind if not one.over],
        )


async def _lines(engine: AsyncEngine) -> list[Line]:
    names = "session_id", "user_id", "turn_id", "provider_session_id", "at", "micro_usd"
    query = select(*(LEDGER.c[name] for name in names)).where(LEDGER.c.tenant_id == TENANT)
    async with engine.connect() as connection:
        rows = (await connection.execute(query)).all()
    return [
        Line(
            TENANT, r.session_id, r.user_id, r.turn_id, r.provider_session_id, r.at[:7], r.micro_usd
        )
        for r in rows
    ]


async def _caps(engine: AsyncEngine) -> tuple[dict[tuple[str, str, str], int], list[str]]:
    accounts = select(CAP_ACCOUNTS).where(CAP_ACCOUNTS.c.tenant_id == TENANT)
    async with engine.connect() as connection:
        kept = {
            (row.scope, row.who, row.period): row.spent_micro_usd
            for row in (await connection.execute(accounts)).all()
        }
        left = (await connection.execute(select(RESERVATIONS))).all()
    return kept, [f"{row.left_micro_usd} for {row.turn_id} of {row.session_id}" for row in left]


async def _leaked(engine: AsyncEngine, url: str) -> list[str]:
    """What `turnstile audit` calls orphans, however young."""
    async with AsyncAnthropic(api_key=SIMULATOR_KEY, base_url=url, max_retries=0) as client:
        now = utcnow()
        found = orphans(Lists(client), Inbox(engine), now=now, since=now - _DAY, at_least=-_DAY)
        return [f"{one.provider_session_id} of {one.session_id}" async for one in found]
