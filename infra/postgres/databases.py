"""Databases on a server: made when missing, dropped when a test is done with them."""

from urllib.parse import urlsplit, urlunsplit

import asyncpg

_TIMEOUT_S = 10.0


async def ensure_database(url: str) -> bool:
    """Create the database that `url` names unless it exists; True when it was created.

    `url` is a SQLAlchemy URL (`postgresql+asyncpg://…/name`); the server's `postgres` database
    must be open to the same user. Raises asyncpg.PostgresError or OSError.
    """
    name = database_name(url)
    connection = await asyncpg.connect(_maintenance(url), timeout=_TIMEOUT_S)
    try:
        if await connection.fetchval("SELECT 1 FROM pg_database WHERE datname = $1", name):
            return False
        await connection.execute(f'CREATE DATABASE "{name}"', timeout=_TIMEOUT_S)
    except asyncpg.DuplicateDatabaseError:  # somebody else was quicker
        return False
    finally:
        await connection.close(timeout=_TIMEOUT_S)
    return True


async def drop_database(url: str) -> None:
    """Drop the database that `url` names, throwing out whoever is connected."""
    connection = await asyncpg.connect(_maintenance(url), timeout=_TIMEOUT_S)
    try:
        drop = f'DROP DATABASE IF EXISTS "{database_name(url)}" WITH (FORCE)'
        await connection.execute(drop, timeout=_TIMEOUT_S)
    finally:
        await connection.close(timeout=_TIMEOUT_S)


def database_name(url: str) -> str:
    """The database in a URL. Raises ValueError when it has none or one that needs quoting."""
    name = urlsplit(url).path.lstrip("/")
    if not name or '"' in name:
        raise ValueError(f"no usable database name at the end of the URL: {name!r}")
    return name


def _maintenance(url: str) -> str:
    parts = urlsplit(url)
    return urlunsplit(parts._replace(scheme="postgresql", path="/postgres"))
