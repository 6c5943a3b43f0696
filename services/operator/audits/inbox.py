"""The worker's head rows and inbox, read for audits and never written but for one thing: a session may be made due,
which a worker takes as a wish to look at it.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from typing import Any

from msgspec import Struct
from msgspec.json import Decoder
from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncEngine

from services.operator.audits.evidence import Asked, Head
from services.operator.database import engine_on
from shared.session import state

PAGE = 500
_COLUMNS = "tenant_id, session_id, state, filed, taken, position"
HEADS = f"""
SELECT {_COLUMNS} FROM worker_heads
WHERE (tenant_id > :tenant OR (tenant_id = :tenant AND session_id > :session))
    AND (:of = '' OR tenant_id = :of)
ORDER BY tenant_id, session_id LIMIT :page
"""
HEAD = f"SELECT {_COLUMNS} FROM worker_heads WHERE tenant_id = :tenant AND session_id = :session"
OWNERS = "SELECT tenant_id FROM worker_heads WHERE session_id = :session ORDER BY tenant_id"
ASKED = """
SELECT position, input_id, kind, body FROM worker_inbox
WHERE tenant_id = :tenant AND session_id = :session AND position > :after
ORDER BY position LIMIT :page
"""
WAKE = """
UPDATE worker_heads SET wake_at = :now
WHERE tenant_id = :tenant AND session_id = :session AND lease_owner IS NULL
"""


class _Body(Struct):
    at: str = ""


_body = Decoder(_Body)


class Inbox:
    """Reads through `engine`. Raises what SQLAlchemy raises."""

    def __init__(self, engine: AsyncEngine) -> None:
        self._engine = engine

    async def owners(self, session: str) -> list[str]:
        """The tenants that have a session of this id."""
        return [row.tenant_id for row in await self._rows(OWNERS, session=session)]

    async def heads(self, tenant: str) -> AsyncIterator[list[Head]]:
        """Pages of all head rows, or of one tenant's ("": all)."""
        after = ("", "")
        while True:
            rows = await self._rows(HEADS, tenant=after[0], session=after[1], of=tenant, page=PAGE)
            if not rows:
                return
            after = (rows[-1].tenant_id, rows[-1].session_id)
            yield [_head(row) for row in rows]

    async def head(self, tenant: str, session: str) -> Head | None:
        """One head row."""
        rows = await self._rows(HEAD, tenant=tenant, session=session)
        return _head(rows[0]) if rows else None

    async def asked(self, tenant: str, session: str) -> list[Asked]:
        """All inputs of a session, in the order they were filed."""
        found: list[Asked] = []
        while True:
            after = found[-1].position if found else 0
            rows = await self._rows(ASKED, tenant=tenant, session=session, after=after, page=PAGE)
            found += [Asked(r.position, r.input_id, r.kind, _at(bytes(r.body))) for r in rows]
            if len(rows) < PAGE:
                return found

    async def wake(self, tenant: str, session: str, now: float) -> bool:
        """Make a session due at once; False when a worker has it already (it listens then)."""
        async with self._engine.begin() as connection:
            values = {"tenant": tenant, "session": session, "now": now}
            return bool((await connection.execute(text(WAKE), values)).rowcount)

    async def _rows(self, statement: str, **values: Any) -> Sequence[Any]:
        async with self._engine.connect() as connection:
            return (await connection.execute(text(statement), values)).all()


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
        working=known.turn is not None or row.filed > row.taken,
    )


def _at(body: bytes) -> str:
    """When it was asked, as the request says."""
    return _body.decode(body).at
