"""Rows written and found many at once: as arrays on PostgreSQL, one by one on SQLite, which has none."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import cache
from typing import Any, Protocol

from sqlalchemy import Column, Select, Table, and_, bindparam, select, tuple_
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.ext.asyncio import AsyncConnection

from shared.tables.arrays import given_rows

Row = Mapping[str, Any]


class ManyRows(Protocol):
    """How a database is given the rows, or the primary keys, that a statement is about: one at least."""

    def insert(self, table: Table) -> Any:
        """An insert for `write`, to be told what to do with rows that are there."""
        ...

    async def write(self, connection: AsyncConnection, insert: Any, rows: Sequence[Row]) -> Any:
        """Insert the rows in this order; what the statement returns."""
        ...

    async def find(
        self, connection: AsyncConnection, table: Table, keys: Sequence[Any], only: str = ""
    ) -> Sequence[Any]:
        """Those of the rows that exist: whole, or the key and the column `only`."""
        ...


class Arrays:
    """PostgreSQL: a statement is the same for however many rows, prepared once and executed once."""

    def insert(self, table: Table) -> Any:
        given, names = given_rows(*table.columns), table.columns.keys()
        rows = select(*(given.c[name] for name in names)).order_by(given.c.place)
        return postgresql.insert(table).from_select(names, rows)

    async def write(self, connection: AsyncConnection, insert: Any, rows: Sequence[Row]) -> Any:
        given = {f"given_{name}": [row[name] for row in rows] for name in rows[0]}
        return await connection.execute(insert, given)

    async def find(
        self, connection: AsyncConnection, table: Table, keys: Sequence[Any], only: str = ""
    ) -> Sequence[Any]:
        parts = zip(table.primary_key.columns, zip(*keys, strict=True), strict=True)
        given = {f"given_{column.name}": list(values) for column, values in parts}
        return list(await connection.execute(_found_by_arrays(table, only), given))


class OneByOne:
    """SQLite: a statement is executed for each row, and told all keys in its text."""

    def insert(self, table: Table) -> Any:
        return sqlite.insert(table)

    async def write(self, connection: AsyncConnection, insert: Any, rows: Sequence[Row]) -> Any:
        return await connection.execute(insert, list(rows))

    async def find(
        self, connection: AsyncConnection, table: Table, keys: Sequence[Any], only: str = ""
    ) -> Sequence[Any]:
        return list(await connection.execute(_found_by_list(table, only), {"keys": keys}))


@cache
def _found_by_arrays(table: Table, only: str) -> Select[Any]:
    key = table.primary_key.columns
    given = given_rows(*key)
    same = and_(*(column == given.c[column.name] for column in key))
    return select(*_shown(table, only)).join_from(given, table, same)


@cache
def _found_by_list(table: Table, only: str) -> Select[Any]:
    named = tuple_(*table.primary_key.columns).in_(bindparam("keys", expanding=True))
    return select(*_shown(table, only)).where(named)


def _shown(table: Table, only: str) -> Sequence[Column[Any]]:
    return [*table.primary_key.columns, table.c[only]] if only else list(table.columns)
