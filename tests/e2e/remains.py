"""Finds where a text still lies: rows of PostgreSQL, rows of ClickHouse, files of the engine and of the logs."""

from __future__ import annotations

import asyncio
import os
from pathlib import Path

from sqlalchemy import text
from sqlalchemy.ext.asyncio import create_async_engine

from tests.e2e.archive import Archive
from tests.stack import LocalStack

TABLES = "SELECT table_name FROM information_schema.tables WHERE table_schema = 'public'"
MERGE_TREES = """
SELECT name FROM system.tables WHERE database = currentDatabase() AND engine LIKE '%MergeTree'
"""


async def in_sql(stack: LocalStack, marker: str) -> list[str]:
    """Names of the tables with a value that has it."""
    engine = create_async_engine(stack.database_url)
    found: list[str] = []
    try:
        async with engine.connect() as connection:
            for (table,) in (await connection.execute(text(TABLES))).all():
                rows = (await connection.execute(text(f'SELECT * FROM "{table}"'))).all()
                if any(marker.encode() in _bytes(value) for row in rows for value in row):
                    found.append(table)
    finally:
        await engine.dispose()
    return found


async def in_archive(archive: Archive, marker: str) -> list[str]:
    """Names of the tables with a row that has it; raw rows, not what views make of them."""
    found: list[str] = []
    for (table,) in await archive.query(MERGE_TREES):
        shown = f"position(formatRow('JSONEachRow', *), '{marker}') > 0"
        if await archive.count(f"SELECT count() FROM `{table}` WHERE {shown}"):
            found.append(str(table))
    return found


async def in_files(folder: Path, marker: str) -> list[str]:
    """Files under a folder that have it as it is: of compressed ones this tells nothing."""

    def look() -> list[str]:
        found: list[str] = []
        # The engine removes files and folders meanwhile; `os.walk` leaves out what is gone.
        for place, _, names in os.walk(folder):
            for path in (Path(place) / name for name in names):
                try:
                    if marker.encode() in path.read_bytes():
                        found.append(str(path))
                except OSError:
                    continue
        return found

    return await asyncio.to_thread(look)


def _bytes(value: object) -> bytes:
    return bytes(value) if isinstance(value, bytes | memoryview) else str(value).encode()
