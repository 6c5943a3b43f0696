"""UserSessions and ProfileStore on PostgreSQL or SQLite, over the read model's engine."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import msgspec
from msgspec import Struct
from sqlalchemy import Executable, delete, update
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.ext.asyncio import AsyncEngine

from services.gateway.adapters.many_rows import Arrays, ManyRows, OneByOne
from services.gateway.adapters.sql import bounded
from services.gateway.ports import UserScope
from services.gateway.views import ProfileView
from shared.grouped import Grouped
from shared.session.key import SessionKey
from shared.tables.gateway import USER_SESSIONS
from shared.tables.profiles import PROFILES


class _Kept(Struct, frozen=True, kw_only=True):
    """The column `body` of a profile."""

    preferences: dict[str, str | bool | int | float] = {}
    facts: list[str] = []


_kept = msgspec.json.Decoder(_Kept)


class SqlUsers:
    """Each call is one transaction of at most five seconds, or has a part in one. Whoever made the engine disposes
    of it. Raises Transient (`database_unavailable`)."""

    def __init__(self, engine: AsyncEngine) -> None:
        self._engine = engine
        self._reader = engine.execution_options(isolation_level="AUTOCOMMIT")
        lite = engine.dialect.name == "sqlite"
        self._many: ManyRows = OneByOne() if lite else Arrays()
        self._insert = sqlite.insert if lite else postgresql.insert
        self._held = Grouped(self._all_held)
        self._profile = Grouped(self._profiles)

    async def held(self, scope: UserScope) -> str | None:
        """See UserSessions.held."""
        return await self._held(scope)

    async def hold(self, scope: UserScope, instead_of: str | None, wanted: str) -> str:
        """See UserSessions.hold. The write waits for one of the same scope that is under way elsewhere, and the
        look afterwards sees what was committed by then."""
        names = USER_SESSIONS.primary_key.columns.keys()
        key = dict(zip(names, scope, strict=True))
        insert = self._insert(USER_SESSIONS).values(**key, session_id=wanted, opened=False)
        if instead_of is None:
            write = insert.on_conflict_do_nothing()
        else:
            write = insert.on_conflict_do_update(
                index_elements=names,
                set_={"session_id": wanted, "opened": False},
                where=USER_SESSIONS.c.session_id == instead_of,
            )
        async with bounded(), self._engine.begin() as connection:
            await connection.execute(write)
            found = await self._many.find(connection, USER_SESSIONS, [scope], "session_id")
        # It is missing only if its session was forgotten meanwhile.
        return str(found[0].session_id) if found else wanted

    async def opened(self, scope: UserScope, session_id: str) -> bool:
        """See UserSessions.opened. Of updates at once the first finds the row as it was."""
        tenant_id, user_id, name = scope
        columns = USER_SESSIONS.c
        note = update(USER_SESSIONS).where(
            columns.tenant_id == tenant_id,
            columns.user_id == user_id,
            columns.scope == name,
            columns.session_id == session_id,
            columns.opened.is_(False),
        )
        async with bounded(), self._engine.begin() as connection:
            return (await connection.execute(note.values(opened=True))).rowcount == 1

    async def end(self, session: SessionKey) -> None:
        """See UserSessions.end."""
        tenant_id, session_id = session
        its = USER_SESSIONS.c.tenant_id == tenant_id, USER_SESSIONS.c.session_id == session_id
        async with bounded(), self._engine.begin() as connection:
            await connection.execute(update(USER_SESSIONS).where(*its).values(session_id=""))

    async def profile(self, tenant_id: str, user_id: str) -> ProfileView | None:
        """See ProfileStore.profile."""
        return await self._profile((tenant_id, user_id))

    async def put_profile(self, tenant_id: str, profile: ProfileView) -> None:
        """See ProfileStore.put_profile."""
        kept = _Kept(preferences=profile.preferences, facts=profile.facts)
        columns, key = PROFILES.c, {"tenant_id": tenant_id, "user_id": profile.user_id}
        body = {"body": msgspec.json.encode(kept).decode(), "updated_at": profile.updated_at}
        write: Executable
        if kept == _Kept():
            its = columns.tenant_id == tenant_id, columns.user_id == profile.user_id
            write = delete(PROFILES).where(*its)
        else:
            insert = self._insert(PROFILES).values(**key, **body)
            write = insert.on_conflict_do_update(index_elements=list(key), set_=body)
        async with bounded(), self._engine.begin() as connection:
            await connection.execute(write)

    async def _profiles(self, who: Sequence[tuple[str, str]]) -> list[ProfileView | None]:
        async with bounded(), self._reader.connect() as connection:
            rows = await self._many.find(connection, PROFILES, list(dict.fromkeys(who)))
        found = {(row.tenant_id, row.user_id): _view(row) for row in rows}
        return [found.get(one) for one in who]

    async def _all_held(self, scopes: Sequence[UserScope]) -> list[str | None]:
        wanted = list(dict.fromkeys(scopes))
        async with bounded(), self._reader.connect() as connection:
            rows = await self._many.find(connection, USER_SESSIONS, wanted, "session_id")
        found = {tuple(row[:-1]): row[-1] for row in rows}
        return [found.get(scope) for scope in scopes]


def _view(row: Any) -> ProfileView:
    kept = _kept.decode(row.body)
    return ProfileView(
        user_id=row.user_id,
        preferences=kept.preferences,
        facts=kept.facts,
        updated_at=row.updated_at,
    )
