"""The worker's head rows and inbox, read for audits and never written but for one thing: a session may be made due,
which a worker takes as a wish to look at it.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from typing import Any

from msgspec import Struct
from msgspec.json import Decoder
from sqlalchemy import ColumnElement, Executable, tuple_, update
from sqlalchemy.ext.asyncio import AsyncEngine
from sqlmodel import col, select

from services.operator.audits.evidence import Asked, Head
from services.operator.database import engine_on
from shared.orphans import used_by
from shared.session import commands, state
from shared.tables.worker import HEADS, HeadRow, InboxRow

PAGE = 500
READ = [
    HEADS.c[name]
    for name in ("tenant_id", "session_id", "state", "todo", "filed", "taken", "position")
]


class _Body(Struct):
    at: str = ""


_body = Decoder(_Body)


class Inbox:
    """Reads through `engine`. Raises what SQLAlchemy raises."""

    def __init__(self, engine: AsyncEngine) -> None:
        self._engine = engine

    async def owners(self, session: str) -> list[str]:
        """The tenants that have a session of this id."""
        query = select(HeadRow.tenant_id).where(HeadRow.session_id == session)
        rows = await self._rows(query.order_by(col(HeadRow.tenant_id)))
        return [row.tenant_id for row in rows]

    async def heads(self, tenant: str) -> AsyncIterator[list[Head]]:
        """Pages of all head rows, or of one tenant's ("": all)."""
        key = HEADS.c.tenant_id, HEADS.c.session_id
        query = select(*READ).order_by(*key).limit(PAGE)
        if tenant:
            query = query.where(HEADS.c.tenant_id == tenant)
        after = ("", "")
        while True:
            rows = await self._rows(query.where(tuple_(*key) > after))
            if not rows:
                return
            after = (rows[-1].tenant_id, rows[-1].session_id)
            yield [_head(row) for row in rows]

    async def head(self, tenant: str, session: str) -> Head | None:
        """One head row."""
        rows = await self._rows(select(*READ).where(*_is(tenant, session)))
        return _head(rows[0]) if rows else None

    async def asked(self, tenant: str, session: str) -> list[Asked]:
        """All inputs of a session, in the order they were filed."""
        position = col(InboxRow.position)
        query = (
            select(InboxRow.position, InboxRow.input_id, InboxRow.kind, InboxRow.body)
            .where(InboxRow.tenant_id == tenant, InboxRow.session_id == session)
            .order_by(position)
            .limit(PAGE)
        )
        found: list[Asked] = []
        while True:
            after = found[-1].position if found else 0
            rows = await self._rows(query.where(position > after))
            found += [Asked(r.position, r.input_id, r.kind, _at(bytes(r.body))) for r in rows]
            if len(rows) < PAGE:
                return found

    async def wake(self, tenant: str, session: str, now: float) -> bool:
        """Make a session due at once; False when a worker has it already (it listens then)."""
        due = update(HEADS).values(wake_at=now)
        idle = due.where(*_is(tenant, session), HEADS.c.lease_owner.is_(None))
        async with self._engine.begin() as connection:
            return bool((await connection.execute(idle)).rowcount)

    async def _rows(self, query: Executable) -> Sequence[Any]:
        async with self._engine.connect() as connection:
            return (await connection.execute(query)).all()


def _is(tenant: str, session: str) -> tuple[ColumnElement[bool], ...]:
    """The head row is this session's."""
    return HEADS.c.tenant_id == tenant, HEADS.c.session_id == session


@asynccontextmanager
async def opened(url: str) -> AsyncIterator[Inbox]:
    """An inbox on the database at `url`."""
    async with engine_on(url) as engine:
        yield Inbox(engine)


def _head(row: Any) -> Head:
    known = state.decode(row.state) if row.state else state.initial(row.tenant_id, row.session_id)
    return Head(
        tenant_id=row.tenant_id,
        session_id=row.session_id,
        last_seq=known.last_seq,
        status=known.status,
        filed=row.filed,
        taken=row.taken,
        position=row.position,
        provider_session_id=known.provider_session_id or "",
        uses=used_by(known, commands.decode(row.todo) if row.todo else ()),
        working=known.may_adopt or row.filed > row.taken,
    )


def _at(body: bytes) -> str:
    """When it was asked, as the request says."""
    return _body.decode(body).at
