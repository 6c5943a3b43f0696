"""ReadModel on PostgreSQL or SQLite: SQLModel's queries, and SQLAlchemy's upserts over the same tables."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Iterable, Mapping, Sequence
from typing import Any

import msgspec
from sqlalchemy import (
    ColumnElement,
    Table,
    and_,
    case,
    delete,
    event,
    or_,
    tuple_,
)
from sqlalchemy.exc import DisconnectionError, SQLAlchemyError
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine, create_async_engine
from sqlmodel import col, select

from services.gateway.adapters.many_rows import Arrays, ManyRows, OneByOne
from services.gateway.gate import Gate
from services.gateway.ports import (
    Changes,
    Claim,
    SessionFilter,
    StoredSession,
    StoredTurn,
    TurnKey,
)
from services.gateway.views import SessionPage, TurnView, encode, read_session, read_turn
from shared import logs
from shared.errors import Transient
from shared.grouped import Grouped
from shared.session.key import SessionKey
from shared.session.state import SessionState, decode
from shared.session.state import encode as encode_state
from shared.tables.gateway import KEYS, SESSIONS, TURNS, USER_SESSIONS, SessionRow

SECONDS = 5.0
# Lists are the only reads that take a connection each: so many at once, and so many more wait.
LISTS_AT_ONCE, LISTS_WAITING = 4, 1_000
NEWEST_FIRST = select(SessionRow.body).order_by(
    col(SessionRow.created_at).desc(), col(SessionRow.session_id).desc()
)
_log = logs.get("gateway.sql")


def open_engine(url: str, pool: int) -> AsyncEngine:
    """An engine for a `postgresql+asyncpg://` or `sqlite+aiosqlite://` URL with at most `pool` connections; nothing
    is connected yet.

    Its errors leave out what a statement was given: that holds what users said, and errors are logged.
    """
    if not url.startswith("sqlite"):
        engine = create_async_engine(
            url, pool_size=pool, max_overflow=0, pool_timeout=SECONDS, hide_parameters=True
        )
        event.listen(engine.sync_engine, "checkout", _require_open)
        return engine
    engine = create_async_engine(
        url,
        pool_size=pool,
        max_overflow=0,
        pool_timeout=SECONDS,
        connect_args={"timeout": SECONDS},
        hide_parameters=True,
    )

    @event.listens_for(engine.sync_engine, "connect")
    def _tune(connection: Any, _: Any) -> None:
        cursor = connection.cursor()
        cursor.execute("PRAGMA journal_mode=WAL")
        cursor.execute("PRAGMA synchronous=NORMAL")
        cursor.close()

    return engine


def _require_open(connection: Any, *_: Any) -> None:
    """The pool makes a new connection in place of one that the server closed meanwhile.

    Known without asking the server, which would be three more round trips for each transaction.
    """
    if connection.driver_connection.is_closed():
        raise DisconnectionError


class SqlReadModel:
    """Each call is one transaction of at most five seconds, or has a part in one.

    However many ask for a session or a turn at once, or open one: they share a handful of connections.
    """

    def __init__(self, engine: AsyncEngine) -> None:
        self.engine = engine
        # A single statement needs no transaction around it: one round trip, not three.
        self._reader = engine.execution_options(isolation_level="AUTOCOMMIT")
        self._many: ManyRows = OneByOne() if engine.dialect.name == "sqlite" else Arrays()
        self._save_sessions = self._upsert(SESSIONS, "last_seq", newest="folded", of=("state",))
        self._save_turns = self._upsert(TURNS, "seq")
        self._add_turns = self._many.insert(TURNS).on_conflict_do_nothing()
        self._add_keys = self._many.insert(KEYS).on_conflict_do_nothing()
        added = self._many.insert(SESSIONS).on_conflict_do_nothing()
        self._add_sessions = added.returning(*SESSIONS.primary_key.columns)
        self._session = Grouped(self._sessions_of)
        self._turn = Grouped(self._turns_of)
        self._open = Grouped(self._opened)
        self._lists = Gate(LISTS_AT_ONCE, LISTS_WAITING)

    async def session(self, key: SessionKey) -> SessionPage | None:
        """See ReadModel.session; this and what follows raises Transient (`database_unavailable`)."""
        return await self._session(key)

    async def turn(self, key: TurnKey) -> TurnView | None:
        return await self._turn(key)

    async def open(self, page: SessionPage) -> SessionPage:
        """See ReadModel.open."""
        return await self._open(page)

    async def sessions(self, wanted: SessionFilter) -> Sequence[SessionPage]:
        """See ReadModel.sessions; raises Transient (`overloaded`) too."""
        created_at, session_id = col(SessionRow.created_at), col(SessionRow.session_id)
        query = NEWEST_FIRST.where(SessionRow.tenant_id == wanted.tenant_id)
        if wanted.user_id is not None:
            query = query.where(SessionRow.user_id == wanted.user_id)
        if wanted.status is not None:
            query = query.where(SessionRow.status == wanted.status)
        if wanted.before is not None:
            at, last = wanted.before
            same = and_(created_at == at, session_id < last)
            query = query.where(or_(created_at < at, same))
        async with self._lists, self._reading() as connection:
            bodies = await connection.scalars(query.limit(wanted.limit))
            return [read_session(body) for body in bodies]

    async def load(self, sessions: Iterable[SessionKey]) -> Mapping[SessionKey, StoredSession]:
        """See ReadModel.load."""
        async with self._reading() as connection:
            return {
                (row.tenant_id, row.session_id): StoredSession(
                    read_session(row.body), _state(row.state)
                )
                for row in await self._found(connection, SESSIONS, list(sessions))
            }

    async def behind(self, after: SessionKey, limit: int) -> Sequence[SessionKey]:
        """See ReadModel.behind: reads the table once from `after` on, there is no index for it."""
        key = col(SessionRow.tenant_id), col(SessionRow.session_id)
        query = (
            select(*key)
            .where(col(SessionRow.folded) < SessionRow.last_seq, tuple_(*key) > after)
            .order_by(*key)
            .limit(limit)
        )
        async with self._reading() as connection:
            return [(row.tenant_id, row.session_id) for row in await connection.execute(query)]

    async def save(self, changes: Changes) -> None:
        """See ReadModel.save; turns of forgotten sessions are deleted before the turns that changed are written."""
        # Sorted: two writers that lock rows in one order can't wait for each other in a circle.
        sessions = [_session_row(changes.sessions[key]) for key in sorted(changes.sessions)]
        turns = [_turn_row(key, turn) for key, turn in sorted(changes.turns.items())]
        asked = [row for row in turns if not row["seq"]]
        seen = [row for row in turns if row["seq"]]
        async with self._begin() as connection:
            if sessions:
                await self._many.write(connection, self._save_sessions, sessions)
            for key in sorted(changes.forgotten):
                for table in (TURNS, KEYS, USER_SESSIONS):
                    await connection.execute(delete(table).where(_of(table, key)))
            for statement, rows in ((self._add_turns, asked), (self._save_turns, seen)):
                if rows:
                    await self._many.write(connection, statement, rows)

    async def claim(self, wanted: Mapping[Claim, str]) -> Mapping[Claim, str]:
        """See ReadModel.claim. An insert waits for one of the same key that is under way elsewhere, and the look
        afterwards sees what was committed by then."""
        rows = [
            {"tenant_id": tenant, "session_id": session, "key": key, "stands_for": id}
            for (tenant, session, key), id in sorted(wanted.items())
        ]
        async with self._begin() as connection:
            await self._many.write(connection, self._add_keys, rows)
            found = {
                (row.tenant_id, row.session_id, row.key): row.stands_for
                for row in await self._found(connection, KEYS, list(wanted))
            }
        return {**wanted, **found}  # one is missing only if its session was forgotten meanwhile

    async def claimed(self, key: Claim) -> str | None:
        """See ReadModel.claimed."""
        async with self._reading() as connection:
            found = await self._found(connection, KEYS, [key], "stands_for")
        return found[0][-1] if found else None

    async def check(self) -> None:
        async with self._reading() as connection:
            await connection.execute(select(SessionRow.last_seq).limit(1))

    async def stop(self) -> None:
        """Close the connections."""
        with contextlib.suppress(SQLAlchemyError, TimeoutError):
            async with asyncio.timeout(SECONDS):
                await self.engine.dispose()

    def _upsert(self, table: Table, order: str, *, newest: str = "", of: Sequence[str] = ()) -> Any:
        """Write a row unless the one there is further on by `order`; of the columns `of` keep what is there when it
        is further on by the column `newest`, which goes with them."""
        insert = self._many.insert(table)
        fresh = {c.name: insert.excluded[c.name] for c in table.columns if not c.primary_key}
        if newest:
            later = insert.excluded[newest] >= table.c[newest]
            for name in (newest, *of):
                fresh[name] = case((later, insert.excluded[name]), else_=table.c[name])
        return insert.on_conflict_do_update(
            index_elements=list(table.primary_key.columns),
            set_=fresh,
            where=table.c[order] <= insert.excluded[order],
        )

    async def _sessions_of(self, keys: Sequence[SessionKey]) -> list[SessionPage | None]:
        async with self._reading() as connection:
            found = await self._bodies(connection, SESSIONS, keys)
        return [read_session(found[key]) if key in found else None for key in keys]

    async def _turns_of(self, keys: Sequence[TurnKey]) -> list[TurnView | None]:
        async with self._reading() as connection:
            found = await self._bodies(connection, TURNS, keys)
        return [read_turn(found[key]) if key in found else None for key in keys]

    async def _opened(self, pages: Sequence[SessionPage]) -> list[SessionPage]:
        """The row of each, inserted where there was none; of two for one session the first counts."""
        keys = [(page.view.tenant_id, page.view.session_id) for page in pages]
        wanted: dict[SessionKey, SessionPage] = {}
        for key, page in zip(keys, pages, strict=True):
            wanted.setdefault(key, page)
        # Each row stands for itself, so this needs no transaction either.
        async with self._reading() as connection:
            rows = [_session_row(StoredSession(page)) for _, page in sorted(wanted.items())]
            written = await self._many.write(connection, self._add_sessions, rows)
            made = {tuple(row) for row in written}
            found = await self._bodies(
                connection, SESSIONS, [key for key in wanted if key not in made]
            )
        wanted |= {key: read_session(body) for key, body in found.items()}
        return [wanted[key] for key in keys]

    async def _found(
        self, connection: AsyncConnection, table: Table, keys: Sequence[Any], only: str = ""
    ) -> Sequence[Any]:
        return await self._many.find(connection, table, keys, only) if keys else []

    async def _bodies(
        self, connection: AsyncConnection, table: Table, keys: Sequence[Any]
    ) -> dict[Any, str]:
        """The bodies of those that exist, by key."""
        found = await self._found(connection, table, keys, "body")
        return {tuple(row[:-1]): row[-1] for row in found}

    @contextlib.asynccontextmanager
    async def _begin(self) -> AsyncIterator[AsyncConnection]:
        async with bounded(), self.engine.begin() as connection:
            yield connection

    @contextlib.asynccontextmanager
    async def _reading(self) -> AsyncIterator[AsyncConnection]:
        async with bounded(), self._reader.connect() as connection:
            yield connection


@contextlib.asynccontextmanager
async def bounded() -> AsyncIterator[None]:
    """For SECONDS at most; whatever the database does wrong inside is Transient."""
    try:
        async with asyncio.timeout(SECONDS):
            yield
    except (SQLAlchemyError, OSError, TimeoutError) as error:
        cause = type(getattr(error, "orig", None) or error).__name__
        raise Transient(
            "database_unavailable",
            f"the gateway's database did not answer ({cause}): try again",
            retry_after=2,
        ) from error


def _of(table: Table, session: SessionKey) -> ColumnElement[bool]:
    return and_(table.c.tenant_id == session[0], table.c.session_id == session[1])


def _state(data: bytes | None) -> SessionState | None:
    """The state in a row; none for one that this build can't read, which has it made anew."""
    try:
        return decode(data) if data else None
    except msgspec.ValidationError:
        return None


def _session_row(stored: StoredSession) -> dict[str, Any]:
    page = stored.page
    view = page.view
    return {
        "tenant_id": view.tenant_id,
        "session_id": view.session_id,
        "user_id": view.user_id,
        "status": view.status,
        "created_at": view.created_at,
        "last_seq": view.last_seq,
        "body": encode(page),
        "state": encode_state(stored.state) if stored.state else None,
        "folded": stored.folded,
    }


def _turn_row(key: TurnKey, turn: StoredTurn) -> dict[str, Any]:
    return {
        "tenant_id": key[0],
        "session_id": key[1],
        "turn_id": key[2],
        "status": turn.view.status,
        "seq": turn.seq,
        "body": encode(turn.view),
    }
