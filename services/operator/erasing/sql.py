"""What the SQL database still holds of an erased session (read only), and of a user beside the sessions, which is
deleted here."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

from sqlalchemy import ColumnElement, Executable, Table, delete, func, union
from sqlalchemy.ext.asyncio import AsyncEngine
from sqlmodel import col, select

from services.operator.database import engine_on
from shared.session import state
from shared.session.state import SessionState
from shared.tables.connects import CONNECTS
from shared.tables.gateway import KEYS, TURNS, USER_SESSIONS, SessionRow
from shared.tables.owned import OWNED, unbind
from shared.tables.profiles import PROFILES
from shared.tables.worker import CONVERSATIONS, INBOX, HeadRow

# Rows about a user; all else is found by session. The vaults' go with the vaults.
FORGOTTEN_FIRST = (PROFILES, USER_SESSIONS, CONNECTS)
OF_USERS = (*FORGOTTEN_FIRST, OWNED)
# A turn that was told that it came too late is ids and times; see the gateway's `erased.py`.
IDS_ONLY = ("accepted", "refused")
# What a forgotten session's state may say; see the worker's `forget.py`.
IDS = ("tenant_id", "session_id", "user_id", "status", "last_seq", "opened_at", "given_up")
# And what the gateway's may: sums and settings, and which turn is just ending.
SUMS = ("mode", "budget_usd", "usage", "cost_cents", "rotated_cents", "ledger", "turn", "progress")


@dataclass(frozen=True, slots=True)
class SqlTraces:
    """`rows` by table; `left`: what of it is more than a tombstone, in words; `provider`: ids the row names."""

    user: str = ""
    opened_at: str = ""
    rows: dict[str, int] = field(default_factory=dict)
    left: tuple[str, ...] = ()
    provider: tuple[str, ...] = ()


class SqlStores:
    """Reads through `engine`. Raises what SQLAlchemy raises."""

    def __init__(self, engine: AsyncEngine) -> None:
        self._engine = engine

    async def owners(self, session: str) -> list[str]:
        """The tenants that have a session of this id."""
        heads = select(HeadRow.tenant_id).where(HeadRow.session_id == session)
        pages = select(SessionRow.tenant_id).where(SessionRow.session_id == session)
        return sorted(row.tenant_id for row in await self._rows(union(heads, pages)))

    async def of_user(self, tenant: str, user: str) -> list[str]:
        """The sessions that the read model shows for a user."""
        query = select(SessionRow.session_id).order_by(col(SessionRow.session_id))
        its = query.where(SessionRow.tenant_id == tenant, SessionRow.user_id == user)
        return [row.session_id for row in await self._rows(its)]

    async def of_user_itself(self, tenant: str, user: str) -> dict[str, int]:
        """Rows about a user, and not about one of the user's sessions, by table; those without any left out."""
        found: dict[str, int] = {}
        for table in OF_USERS:
            query = select(func.count()).select_from(table).where(*_of(table, tenant, user))
            ((count,),) = await self._rows(query)
            if count:
                found[table.name] = int(count)
        return found

    async def forget(self, tenant: str, user: str) -> None:
        """Delete them, those of vaults excepted."""
        async with self._engine.begin() as connection:
            for table in FORGOTTEN_FIRST:
                await connection.execute(delete(table).where(*_of(table, tenant, user)))

    async def vaults_of(self, tenant: str, user: str) -> list[str]:
        """The vaults that were made for a user."""
        its = _of(OWNED, tenant, user)
        query = select(OWNED.c.id).where(OWNED.c.kind == "vault", *its).order_by(OWNED.c.id)
        return [row.id for row in await self._rows(query)]

    async def forget_vault(self, vault: str) -> None:
        """Delete the row of a vault that is no more."""
        async with self._engine.begin() as connection:
            await unbind(connection, ("vault", vault))

    async def traces(self, tenant: str, session: str) -> SqlTraces:
        """What there is of a session now."""
        heads = await self._rows(
            select(HeadRow.state, HeadRow.unsaid, HeadRow.todo).where(
                HeadRow.tenant_id == tenant, HeadRow.session_id == session
            )
        )
        pages = await self._rows(
            select(SessionRow.user_id, SessionRow.status, SessionRow.state).where(
                SessionRow.tenant_id == tenant, SessionRow.session_id == session
            )
        )
        inputs = await self._count(INBOX, tenant, session)
        said = await self._count(CONVERSATIONS, tenant, session)
        turns = await self._count(TURNS, tenant, session)
        told = await self._count(TURNS, tenant, session, TURNS.c.status.not_in(IDS_ONLY))
        keys = await self._count(KEYS, tenant, session)
        held = await self._count(USER_SESSIONS, tenant, session)
        known = _state(heads[0].state) if heads else None
        left = [
            *(_left_of_head(heads[0], known) if heads else ()),
            *([f"worker_inbox: {inputs} inputs"] if inputs else ()),
            *([f"worker_conversations: {said} entries"] if said else ()),
            *(line for page in pages for line in _left_of_page(page)),
            *([f"gateway_turns: {told} turns"] if told else ()),
        ]
        bound = (known.provider_session_id,) if known and known.provider_session_id else ()
        return SqlTraces(
            user=pages[0].user_id if pages else (known.user_id if known else ""),
            opened_at=(known.opened_at or "") if known else "",
            rows={
                "worker_heads": len(heads),
                "worker_inbox": inputs,
                "worker_conversations": said,
                "gateway_sessions": len(pages),
                "gateway_turns": turns,
                "gateway_keys": keys,
                "gateway_user_sessions": held,
            },
            left=tuple(left),
            provider=(*(known.given_up if known else ()), *bound),
        )

    async def _count(
        self, table: Table, tenant: str, session: str, *more: ColumnElement[bool]
    ) -> int:
        its = table.c.tenant_id == tenant, table.c.session_id == session
        ((count,),) = await self._rows(select(func.count()).select_from(table).where(*its, *more))
        return int(count)

    async def _rows(self, query: Executable) -> Sequence[Any]:
        async with self._engine.connect() as connection:
            return (await connection.execute(query)).all()


@asynccontextmanager
async def sql_stores(url: str) -> AsyncIterator[SqlStores]:
    """The tables in the database at `url`."""
    async with engine_on(url) as engine:
        yield SqlStores(engine)


def _of(table: Table, tenant: str, user: str) -> tuple[ColumnElement[bool], ...]:
    return table.c.tenant_id == tenant, table.c.user_id == user


def _state(data: bytes) -> SessionState | None:
    return state.decode(bytes(data)) if data else None


def _left_of_head(row: Any, known: SessionState | None) -> list[str]:
    if known is None or known.status != "erased":
        return ["worker_heads: the session is not erased yet"]
    more = _said(known, IDS)
    # An empty list of events is one byte.
    more += [name for name in ("unsaid", "todo") if len(getattr(row, name)) > 1]
    return [f"worker_heads: {', '.join(more)}"] if more else []


def _left_of_page(row: Any) -> list[str]:
    if row.status != "erased":
        return [f"gateway_sessions: status {row.status}"]
    known = _state(row.state)
    more = _said(known, (*IDS, *SUMS)) if known else []
    return [f"gateway_sessions: {', '.join(more)}"] if more else []


def _said(known: SessionState, allowed: Sequence[str]) -> list[str]:
    """Which fields of a state say something, beyond those allowed."""
    nothing = SessionState(tenant_id=known.tenant_id, session_id=known.session_id)
    names = [n for n in known.__struct_fields__ if getattr(known, n) != getattr(nothing, n)]
    return [name for name in names if name not in allowed]
