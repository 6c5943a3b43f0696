"""Conversations on the Messages API as rows, added to and never changed."""

from __future__ import annotations

from collections.abc import Sequence

from sqlalchemy import delete, insert, select
from sqlalchemy.exc import IntegrityError
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine

from services.agent_worker.adapters.sql import connection_to
from services.agent_worker.ports import Entry
from shared.session.key import SessionKey
from shared.tables.worker import CONVERSATIONS

C = CONVERSATIONS.c
FIELDS = [C[name] for name in ("position", "source", "event", "said")]


class SqlConversations:
    """The Conversations port on an engine that the caller made and disposes of."""

    def __init__(self, engine: AsyncEngine) -> None:
        self._engine = engine

    async def open(self, key: SessionKey, conversation: str, first: Entry) -> Entry:
        """See Conversations.open."""
        try:
            async with connection_to(self._engine) as connection, connection.begin():
                row = _row(conversation, tuple(key), first)
                await connection.execute(insert(CONVERSATIONS), [row])
            return first
        except IntegrityError:  # an earlier try has begun it
            return (await self.read(conversation))[0]

    async def append(self, conversation: str, entries: Sequence[Entry]) -> bool:
        """See Conversations.append."""
        try:
            async with connection_to(self._engine) as connection, connection.begin():
                of = await self._session(connection, conversation)
                newest = await self._newest(connection, conversation)
                if of is None or newest != entries[0].position - 1:
                    return False
                rows = [_row(conversation, of, entry) for entry in entries]
                await connection.execute(insert(CONVERSATIONS), rows)
        except IntegrityError:
            return False
        return True

    async def read(self, conversation: str, after: int = -1) -> list[Entry]:
        """See Conversations.read."""
        query = (
            select(*FIELDS)
            .where(C.conversation == conversation, C.position > after)
            .order_by(C.position)
        )
        async with connection_to(self._engine) as connection:
            rows = (await connection.execute(query)).mappings().all()
        return [Entry(**row) for row in rows]

    async def forget(self, conversation: str) -> None:
        """See Conversations.forget."""
        async with connection_to(self._engine) as connection, connection.begin():
            await self._session(connection, conversation)
            await connection.execute(delete(CONVERSATIONS).where(C.conversation == conversation))

    async def _session(
        self, connection: AsyncConnection, conversation: str
    ) -> tuple[str, str] | None:
        """Whose it is; held until the transaction ends, so that nothing is added to what is being forgotten."""
        columns = (C.tenant_id, C.session_id)
        query = (
            select(*columns)
            .where(C.conversation == conversation, C.position == 0)
            .with_for_update()
        )
        row = (await connection.execute(query)).first()
        return None if row is None else (row.tenant_id, row.session_id)

    async def _newest(self, connection: AsyncConnection, conversation: str) -> int | None:
        query = (
            select(C.position)
            .where(C.conversation == conversation)
            .order_by(C.position.desc())
            .limit(1)
        )
        position: int | None = (await connection.execute(query)).scalar()
        return position


def _row(conversation: str, of: tuple[str, ...], entry: Entry) -> dict[str, object]:
    return {
        "conversation": conversation,
        "position": entry.position,
        "tenant_id": of[0],
        "session_id": of[1],
        "source": entry.source,
        "event": entry.event,
        "said": entry.said,
    }
