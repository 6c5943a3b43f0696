"""The year's store on a real database: the adapters that run in production, by the year's own clock.

Time is virtual and the database is not. So time stands still while something is asked of the database, and a
statement that reads the database's clock is given the year's.
"""

from __future__ import annotations

import asyncio
from collections import defaultdict
from collections.abc import Awaitable, Callable, Collection, Mapping, Sequence
from contextvars import Context
from typing import Any, TypeVar, TypeVarTuple, Unpack, cast

from sqlalchemy import Executable, event, select
from sqlalchemy.ext.asyncio import AsyncEngine

from infra.postgres.migrate import migrate_async
from services.agent_worker.adapters.direct import Direct
from services.agent_worker.adapters.engine import make_engine
from services.agent_worker.adapters.postgres import PostgresStore
from services.agent_worker.adapters.sql import HEAD, head_of
from services.agent_worker.adapters.sqlite import SqliteStore
from services.agent_worker.ports import Head, Money, NewInput, Unread
from shared.clock import Clock
from shared.session.caps import Spender
from shared.session.inputs import Filed
from shared.session.key import SessionKey
from shared.tables.caps import CAP_ACCOUNTS, RESERVATIONS
from shared.tables.clock import Now
from shared.tables.worker import HEADS
from tests.fakes.caps import MemoryBooks, Reservation
from tests.fakes.store import Row
from tests.unit.agent_worker.counted import CountedStore
from tests.unit.agent_worker.virtual_time import VirtualLoop

CONNECTIONS = 16
T = TypeVar("T")
Ts = TypeVarTuple("Ts")


class StandingLoop(VirtualLoop):
    """Virtual time that stands still while `asked` answers are awaited of the world outside."""

    def __init__(self) -> None:
        super().__init__()
        self.asked = 0
        self.answers = 0

    def _run_once(self) -> None:
        waits = self.asked > 0 and not self._ready and not self._stopping
        outside = cast("Any", self)
        outside._process_events(outside._selector.select(None if waits else 0))
        if self._ready or not self.asked or self._stopping:
            super()._run_once()

    def call_soon_threadsafe(
        self,
        callback: Callable[[Unpack[Ts]], object],
        *args: *Ts,
        context: Context | None = None,
    ) -> asyncio.Handle:
        """As call_soon, waking the loop where it waits for the world outside: SQLite answers from a thread."""
        handle = self.call_soon(callback, *args, context=context)
        cast("Any", self)._write_to_self()
        return handle

    def _add_callback(self, handle: asyncio.Handle) -> None:
        """Asyncio's, for a connection that has something to read or room to write."""
        if not handle.cancelled():
            self.call_soon(cast("Any", handle)._run)

    async def answered(self, ask: Callable[[], Awaitable[T]]) -> T:
        """What `ask` returns. It is done to its end, whoever asked and was killed meanwhile: a database does what
        it was sent."""
        self.asked += 1
        self.answers += 1
        task = Context().run(self.create_task, cast("Any", ask()))
        task.add_done_callback(self._over)
        return cast("T", await asyncio.shield(task))

    def _over(self, task: asyncio.Task[Any]) -> None:
        self.asked -= 1
        if not task.cancelled():
            task.exception()


class SqlYearStore:
    """The Store port. `rows` and `books` are what the tables hold, once `read` has read them."""

    def __init__(self, engine: AsyncEngine, clock: Clock) -> None:
        loop = asyncio.get_running_loop()
        assert isinstance(loop, StandingLoop)
        self.rows: dict[SessionKey, Row] = {}
        self.books = MemoryBooks()
        self._engine = engine
        self._store = _store_by(engine, clock)
        self._ask = loop.answered
        # Who holds nothing has nothing to extend.
        self._held: dict[str, set[SessionKey]] = defaultdict(set)

    @property
    def moving(self) -> dict[SessionKey, Row]:
        """Of the rows that were read, those that may be due or held by somebody."""
        rows = self.rows.items()
        return {key: row for key, row in rows if row.owner is not None or row.wake_at is not None}

    async def file(self, inputs: Sequence[NewInput]) -> set[SessionKey]:
        """See Store.file."""
        return await self._ask(lambda: self._store.file(inputs))

    async def claim(self, owner: str, limit: int, lease_seconds: float) -> list[Head]:
        """See Store.claim."""
        heads = await self._ask(lambda: self._store.claim(owner, limit, lease_seconds))
        self._held[owner].update(head.key for head in heads)
        return heads

    async def extend(self, owner: str, lease_seconds: float) -> Mapping[SessionKey, int]:
        """See Store.extend."""
        if not self._held[owner]:
            return {}
        mine = await self._ask(lambda: self._store.extend(owner, lease_seconds))
        self._held[owner] = set(mine)
        return mine

    async def let_go(self, owner: str, keys: Collection[SessionKey], after_seconds: float) -> None:
        """See Store.let_go."""
        await self._ask(lambda: self._store.let_go(owner, keys, after_seconds))

    async def with_news(self, owner: str) -> set[SessionKey]:
        """See Store.with_news."""
        return await self._ask(lambda: self._store.with_news(owner)) if self._held[owner] else set()

    async def unread(self, key: SessionKey, after: int) -> list[Unread]:
        """See Store.unread."""
        return await self._ask(lambda: self._store.unread(key, after))

    async def read(self, key: SessionKey, input_id: str) -> Filed:
        """See Store.read."""
        return await self._ask(lambda: self._store.read(key, input_id))

    async def write(self, head: Head, money: Money | None = None) -> Head:
        """See Store.write."""
        return await self._ask(lambda: self._store.write(head, money))

    async def take_in(self, head: Head, inputs: Sequence[NewInput]) -> Head | None:
        """See Store.take_in."""
        return await self._ask(lambda: self._store.take_in(head, inputs))

    async def release(self, head: Head, due_at: str | None) -> None:
        """See Store.release."""
        await self._ask(lambda: self._store.release(head, due_at))

    async def erase(self, head: Head, due_at: str | None) -> None:
        """See Store.erase."""
        await self._ask(lambda: self._store.erase(head, due_at))

    async def look(self) -> None:
        """Read the tables into `rows` and `books`."""
        await self._ask(self._look)

    async def close(self) -> None:
        """Give the connections back."""
        await self._ask(self._engine.dispose)

    async def _look(self) -> None:
        columns = [HEADS.c[name] for name in (*HEAD, "filed", "lease_owner", "wake_at")]
        async with self._engine.connect() as connection:
            rows = (await connection.execute(select(*columns))).all()
            accounts = (await connection.execute(select(CAP_ACCOUNTS))).all()
            reserved = (await connection.execute(select(RESERVATIONS))).all()
        heads = {(r.tenant_id, r.session_id): r for r in rows}
        self.rows = {
            k: Row(head_of(r), r.filed, r.lease_owner, r.wake_at) for k, r in heads.items()
        }
        for account in accounts:
            place = account.scope, account.who, account.period
            self.books.spent[place] += account.spent_micro_usd
        self.books.reservations = {
            (r.tenant_id, r.session_id): Reservation(r.turn_id, _spender(r), r.left_micro_usd)
            for r in reserved
        }


class _ByClock(Direct):
    """Statements by asyncpg itself, which read the clock that `told` puts into their text."""

    def __init__(self, engine: AsyncEngine, connections: int, told: Callable[[str], str]) -> None:
        super().__init__(engine, connections)
        self._written: dict[Executable, Any] = {}
        self._told = told

    async def rows(self, statement: Executable, given: Mapping[str, Any]) -> Sequence[Any]:
        """See Direct.rows."""
        if statement not in self._written:
            self._written[statement] = self._compiled(statement)
        text, parameters = self._written[statement]
        self._prepared[statement] = self._told(text), parameters
        return await super().rows(statement, given)


def _store_by(engine: AsyncEngine, clock: Clock) -> PostgresStore | SqliteStore:
    """The store on this engine, whose statements that read the database's clock read this one."""
    now = str(Now().compile(dialect=engine.sync_engine.dialect))

    def told(statement: str) -> str:
        return statement.replace(now, f"CAST({clock().timestamp()!r} AS double precision)")

    # Before a store is made: an engine made of this one hears only what this one heard by then.
    @event.listens_for(engine.sync_engine, "before_cursor_execute", retval=True)
    def _tell(_c: Any, _cursor: Any, statement: str, parameters: Any, *_: Any) -> tuple[str, Any]:
        return told(statement), parameters

    if engine.dialect.name == "postgresql":
        return PostgresStore(engine, _ByClock(engine, CONNECTIONS, told))
    return SqliteStore(engine)


def _spender(row: Any) -> Spender:
    return Spender(tenant_id=row.tenant_id, user_id=row.user_id, session_id=row.session_id)


class CountedSqlStore(CountedStore):
    """As CountedStore: only a claim or an extension of something is an effect, which here the answer tells."""

    async def claim(self, owner: str, limit: int, lease_seconds: float) -> list[Head]:
        """See Store.claim."""
        await self._effects.alive()
        heads = await self._inner.claim(owner, limit, lease_seconds)
        return await self._told("claim", heads) if heads else []

    async def extend(self, owner: str, lease_seconds: float) -> Mapping[SessionKey, int]:
        """See Store.extend."""
        await self._effects.alive()
        mine = await self._inner.extend(owner, lease_seconds)
        return await self._told("extend", mine) if mine else {}

    async def _told(self, name: str, found: T) -> T:
        async def act() -> T:
            return found

        return await self._effects.do(name, self._far, act)


async def opened(url: str, clock: Clock) -> SqlYearStore:
    """A store on a database that is migrated first. Raises MigrationError."""
    loop = asyncio.get_running_loop()
    assert isinstance(loop, StandingLoop)
    await loop.answered(lambda: migrate_async(url))
    return SqlYearStore(make_engine(url, pool=CONNECTIONS), clock)
