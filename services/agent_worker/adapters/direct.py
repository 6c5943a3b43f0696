"""Statements that are a transaction of their own, through asyncpg itself: on connections beside the engine's, by
asyncpg's prepared statements. What a session does waits for these; SQLAlchemy's way to each costs more than asyncpg
and PostgreSQL together (docs/decisions/0033).

SQLAlchemy writes the statements, once. What it makes of errors is made of them here too.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any
from weakref import WeakKeyDictionary

import asyncpg
from sqlalchemy import Executable, event
from sqlalchemy.ext.asyncio import AsyncEngine

from services.agent_worker.adapters.sql import AWAY_CLASSES, GAVE_WAY
from shared.errors import Transient

# No connection, or none in time (TimeoutError is an OSError), or one that is closed, or is just being closed by a
# server that ends: to asyncpg that is a fault of its own.
AWAY = (OSError, asyncpg.InterfaceError, asyncpg.InternalClientError)
# For a connection when all are taken, and for a new one.
PATIENCE_S, CONNECT_S = 10.0, 5.0
STATEMENT_S = 30.0


class Row(asyncpg.Record):
    """A row whose columns are attributes too."""

    def __getattr__(self, name: str) -> Any:
        try:
            return self[name]
        except KeyError:
            raise AttributeError(name) from None


# A statement's text, and the name of each parameter in its order with the value of one that nobody gives.
_Prepared = tuple[str, tuple[tuple[str, Any], ...]]


class Direct:
    """Up to `connections` of its own to the database of `engine`, made when they are needed and closed when that is
    disposed of. One event loop's."""

    def __init__(self, engine: AsyncEngine, connections: int) -> None:
        self._engine = engine.sync_engine
        self._prepared: dict[Executable, _Prepared] = {}
        self._pool: asyncpg.Pool[Row] | None = None
        self._connections = connections
        event.listen(self._engine, "engine_disposed", self._disposed)

    async def rows(self, statement: Executable, given: Mapping[str, Any]) -> Sequence[Row]:
        """What the statement returns for the parameters of these names. Raises Transient for what will pass: no
        database, or a transaction that gave way to another."""
        known = self._prepared.get(statement)
        if known is None:
            known = self._prepared[statement] = self._compiled(statement)
        text, parameters = known
        values = [given.get(name, default) for name, default in parameters]
        try:
            if self._pool is None:
                self._pool = await self._opened()
            async with self._pool.acquire(timeout=PATIENCE_S) as connection:
                try:
                    return await connection.fetch(text, *values)
                except AWAY:
                    connection.terminate()  # whatever state it is in, nobody gets it again
                    raise
        except AWAY as error:
            raise Transient("database_away", str(error)[:200]) from error
        except asyncpg.PostgresError as error:
            sqlstate = error.sqlstate or ""
            if sqlstate.startswith(AWAY_CLASSES):
                raise Transient("database_away", str(error)[:200]) from error
            if sqlstate in GAVE_WAY:
                raise Transient("database_conflict", str(error)[:200]) from error
            error.detail = None  # quotes the row: what a user said would be logged
            raise

    def _compiled(self, statement: Executable) -> _Prepared:
        written: Any = statement
        made = written.compile(dialect=self._engine.dialect)
        return str(made), tuple((name, made.params[name]) for name in made.positiontup or ())

    async def _opened(self) -> asyncpg.Pool[Row]:
        """The pool: no connection yet, so that two who come at once need not wait for each other."""
        _, options = self._engine.dialect.create_connect_args(self._engine.url)
        kept = options.pop("prepared_statement_cache_size", 100)
        options.pop("prepared_statement_name_func", None)
        return await asyncpg.create_pool(
            **options,
            min_size=0,
            max_size=self._connections,
            timeout=CONNECT_S,
            command_timeout=STATEMENT_S,
            statement_cache_size=int(kept),
            max_cached_statement_lifetime=0,
            reset=_nothing,  # a statement leaves nothing behind; asyncpg's own reset is a round trip
            record_class=Row,
        )

    def _disposed(self, _engine: object) -> None:
        pool, self._pool = self._pool, None
        if pool is not None:
            pool.terminate()


async def _nothing(_connection: object) -> None:
    """What is done with a connection that is given back."""


_all: WeakKeyDictionary[AsyncEngine, Direct] = WeakKeyDictionary()


def put_beside(engine: AsyncEngine, connections: int) -> None:
    """Let the engine have so many connections beside its own. Once for an engine."""
    _all[engine] = Direct(engine, connections)


def beside(engine: AsyncEngine) -> Direct:
    """What was put beside that engine: one for all who ask."""
    return _all[engine]
