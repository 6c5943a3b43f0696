"""Fills the tables of a stack with copies of one session that the product wrote: the same rows under other ids.

Every table of PostgreSQL that has rows of the session gets those of the others, in one statement for many sessions,
and so does the archive's table of events; what ClickHouse derives from events, its own views derive. The ids are as
long as the model's, so that they can take its place wherever it stands, inside encoded states too.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from typing import Any

import asyncpg
import clickhouse_connect

from shared.archive_insert import TABLE
from shared.tables import gateway, worker
from tests.bench.child import ChildError
from tests.bench.parts import Parts

AT_ONCE = 100_000
NUMBER = 19  # digits of a session's number in an id
TABLES = sorted(
    table.name
    for metadata in (gateway.METADATA, worker.METADATA)
    for table in metadata.tables.values()
    if "session_id" in table.columns
)
# What a copy has of its own: it is looked at some hours later, not all at one moment; its inputs have their places.
LATER = "wake_at + 3600 + n * 0.01"
COUNTED = ("worker_inbox", "position")
LET_GO_S = 60.0
_DRIVEN = "SELECT lease_owner IS NOT NULL FROM worker_heads WHERE session_id = $1"
_COLUMNS = """
SELECT column_name, udt_name FROM information_schema.columns WHERE table_name = $1 ORDER BY ordinal_position
"""
_DERIVED = """
SELECT DISTINCT table FROM system.columns WHERE database = currentDatabase() AND name = 'session_id' AND table IN (
    SELECT name FROM system.tables WHERE database = currentDatabase() AND engine LIKE '%MergeTree')
ORDER BY table
"""
_STORED = """
SELECT name, type FROM system.columns WHERE database = currentDatabase() AND table = {table:String}
AND default_kind NOT IN ('MATERIALIZED', 'ALIAS', 'EPHEMERAL') ORDER BY position
"""
_TEXTS = ("String", "LowCardinality(String)")


def session_id(number: int) -> str:
    """The id of a session that clients of `talking` open as the first of run `number`."""
    return f"talk-{number:0{NUMBER}d}-0"


async def fill(parts: Parts, model: str, known: int) -> None:
    """Put sessions 1 to `known` beside `model`, once no worker holds it, and compare the last one with it.

    Raises ChildError, TimeoutError.
    """
    connection = await asyncpg.connect(plain(parts), timeout=10, command_timeout=600)
    archive = await asyncio.to_thread(_archive, parts)
    try:
        async with asyncio.timeout(LET_GO_S):
            while await connection.fetchval(_DRIVEN, model):  # noqa: ASYNC110 - the row is all that tells
                await asyncio.sleep(0.5)
        await asyncio.gather(
            _fill_sql(parts, connection, model, known),
            asyncio.to_thread(_fill_archive, parts, archive, model, known),
        )
        for table in TABLES:
            await connection.execute(f"VACUUM ANALYZE {table}")
        await check(connection, archive, model, session_id(known))
    finally:
        await connection.close()
        archive.close()


async def check(connection: Any, archive: Any, model: str, copy: str) -> None:
    """Raise ChildError where a row of `copy` is not the model's with the other id."""
    for table in TABLES:
        ours, theirs = [await _rows(connection, table, one, model) for one in (model, copy)]
        _same(table, ours, theirs)
    for (table,) in archive.query(_DERIVED).result_rows:
        ours, theirs = [
            await asyncio.to_thread(_archived, archive, table, one, model) for one in (model, copy)
        ]
        _same(table, ours, theirs)


def _same(table: str, ours: Sequence[object], theirs: Sequence[object]) -> None:
    if ours != theirs:
        raise ChildError(f"{table}: a copy is not what was written\n{ours}\n{theirs}")


async def _rows(connection: Any, table: str, session: str, model: str) -> list[Any]:
    kinds = await _kinds(connection, table)
    columns = [name for name in kinds if name != "wake_at" and (table, name) != COUNTED]
    found = await connection.fetch(
        f"SELECT {', '.join(columns)} FROM {table} WHERE session_id = $1", session
    )
    return sorted(str([_as_model(value, session, model) for value in row]) for row in found)


def _archived(archive: Any, table: str, session: str, model: str) -> list[str]:
    columns = archive.query(_STORED, parameters={"table": table}).result_rows
    shown = ", ".join(
        f"finalizeAggregation({name})" if kind.startswith("AggregateFunction") else name
        for name, kind in columns
    )
    asked = f"SELECT {shown} FROM {table} FINAL WHERE session_id = {{session:String}}"
    found = archive.query(asked, parameters={"session": session}).result_rows
    return sorted(str([_as_model(value, session, model) for value in row]) for row in found)


def _as_model(value: Any, session: str, model: str) -> Any:
    if isinstance(value, str):
        return value.replace(session, model)
    return value.replace(session.encode(), model.encode()) if isinstance(value, bytes) else value


async def _fill_sql(parts: Parts, connection: Any, model: str, known: int) -> None:
    copying = {table: _copying(table, await _kinds(connection, table)) for table in TABLES}
    for first in range(1, known + 1, AT_ONCE):
        last = min(known, first + AT_ONCE - 1)
        for statement in copying.values():
            await connection.execute(statement, model, first, last)
        parts.say(f"  {last:,} sessions in PostgreSQL")


async def _kinds(connection: Any, table: str) -> Mapping[str, str]:
    """The columns and their types."""
    return dict(await connection.fetch(_COLUMNS, table))


def _copying(table: str, kinds: Mapping[str, str]) -> str:
    """The statement that copies the rows of session $1 under the numbers from $2 to $3."""
    other = f"('talk-' || lpad(n::text, {NUMBER}, '0') || '-0')"
    as_hex = "encode(convert_to({}, 'UTF8'), 'hex')"

    def value(name: str, kind: str) -> str:
        if name == "wake_at":
            return LATER
        if kind in ("text", "varchar"):
            return f"replace({name}, $1, {other})"
        if kind == "bytea":
            was, now = as_hex.format("$1"), as_hex.format(other)
            return f"decode(replace(encode({name}, 'hex'), {was}, {now}), 'hex')"
        return name

    columns = {name: kind for name, kind in kinds.items() if (table, name) != COUNTED}
    values = ", ".join(value(name, kind) for name, kind in columns.items())
    return (
        f"INSERT INTO {table} ({', '.join(columns)}) SELECT {values} FROM {table}, "
        "generate_series($2::bigint, $3::bigint) AS n WHERE session_id = $1::text ORDER BY n"
    )


def _fill_archive(parts: Parts, archive: Any, model: str, known: int) -> None:
    """Copies in `session_events`; the tables beside it are filled by its views."""
    columns = archive.query(_STORED, parameters={"table": TABLE}).result_rows
    other = f"concat('talk-', leftPad(toString(n), {NUMBER}, '0'), '-0')"
    values = ", ".join(
        f"replaceAll({name}, {{model:String}}, {other}) AS {name}_" if kind in _TEXTS else name
        for name, kind in columns
    )
    names = ", ".join(name for name, _ in columns)
    for first in range(1, known + 1, AT_ONCE):
        last = min(known, first + AT_ONCE - 1)
        archive.command(
            f"INSERT INTO {TABLE} ({names}) SELECT {values} FROM "
            f"(SELECT number + {first} AS n FROM numbers({last - first + 1})) AS many "
            f"CROSS JOIN (SELECT {names} FROM {TABLE} FINAL WHERE session_id = {{model:String}}) AS one",
            parameters={"model": model},
        )
        parts.say(f"  {last:,} sessions in ClickHouse")


def _archive(parts: Parts) -> Any:
    make: Any = clickhouse_connect.get_client
    return make(
        dsn=parts.addresses.clickhouse_url, autogenerate_session_id=False, send_receive_timeout=600
    )


def plain(parts: Parts) -> str:
    return parts.addresses.database_url.replace("postgresql+asyncpg://", "postgresql://")
