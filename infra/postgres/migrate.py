"""SQL migrations of both services, each tree with its own history.

Works on PostgreSQL and SQLite; the database itself is created when it is missing. Several processes may
migrate at once: on PostgreSQL they take turns by an advisory lock, on SQLite by its write lock.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from pathlib import Path

import asyncpg
from alembic import command
from alembic.config import Config
from alembic.runtime.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy import Connection, text
from sqlalchemy.engine import make_url
from sqlalchemy.exc import SQLAlchemyError
from sqlalchemy.ext.asyncio import create_async_engine
from sqlalchemy.pool import NullPool

from infra.postgres.databases import ensure_database

HERE = Path(__file__).parent
TREES = ("gateway", "worker")
# What a database that does not exist yet is compared with in a dry run.
EMPTY = "sqlite+aiosqlite://"
SECONDS = 120.0
# Any number will do; it names this program's migrations among the locks of the database.
_LOCK = 7_311_205_003


def migrate(database_url: str, *, dry_run: bool = False) -> list[str]:
    """Bring both trees to their newest revision; returns what was (or, in a dry run, would be) applied.

    Each entry is `<tree>: <revision> <title>`. `database_url` is a SQLAlchemy URL with an async driver. A dry run
    changes nothing, not even a missing database. Blocks; raises RuntimeError in words.
    """
    try:
        return asyncio.run(asyncio.wait_for(migrate_async(database_url, dry_run=dry_run), SECONDS))
    except TimeoutError as error:
        raise RuntimeError(f"the SQL migrations took longer than {SECONDS:g} s") from error


async def migrate_async(database_url: str, *, dry_run: bool = False) -> list[str]:
    """`migrate` for a running event loop."""
    try:
        if not dry_run:
            await _ensure(database_url)
        elif not await _exists(database_url):
            database_url = EMPTY
        engine = create_async_engine(database_url, poolclass=NullPool)
        async with engine.connect() as connection:
            return await connection.run_sync(_migrate, dry_run)
    except (OSError, SQLAlchemyError, asyncpg.PostgresError) as error:
        cause = getattr(error, "orig", None) or error
        place = make_url(database_url).render_as_string(hide_password=True)
        raise RuntimeError(f"could not migrate {place}: {cause}") from error


async def _ensure(database_url: str) -> None:
    file = _file(database_url)
    if file is None:
        await ensure_database(database_url)
    else:
        await asyncio.to_thread(file.parent.mkdir, parents=True, exist_ok=True)


async def _exists(database_url: str) -> bool:
    file = _file(database_url)
    if file is not None:
        return await asyncio.to_thread(file.exists)
    try:
        connection = await asyncpg.connect(database_url.replace("+asyncpg", "", 1), timeout=10)
    except asyncpg.InvalidCatalogNameError:
        return False
    await connection.close(timeout=10)
    return True


def _file(database_url: str) -> Path | None:
    """Where a SQLite database lives; None for PostgreSQL."""
    url = make_url(database_url)
    return Path(url.database or "").absolute() if url.get_backend_name() == "sqlite" else None


def _migrate(connection: Connection, dry_run: bool) -> list[str]:
    postgres = connection.dialect.name == "postgresql"
    if postgres:
        connection.execute(text(f"SELECT pg_advisory_lock({_LOCK})"))
        connection.commit()
    try:
        applied = []
        for tree in TREES:
            config = _config(tree, connection)
            if config is None:
                continue
            applied += [f"{tree}: {step}" for step in _pending(tree, config, connection)]
            if not dry_run:
                command.upgrade(config, "head")
                connection.commit()
        return applied
    finally:
        if postgres:
            connection.execute(text(f"SELECT pg_advisory_unlock({_LOCK})"))
            connection.commit()


def _config(tree: str, connection: Connection) -> Config | None:
    folder = HERE / f"{tree}_migrations"
    if not (folder / "env.py").exists():
        return None
    config = Config()
    config.set_main_option("script_location", str(folder))
    config.set_main_option("path_separator", "os")
    config.attributes["connection"] = connection
    return config


def _pending(tree: str, config: Config, connection: Connection) -> Iterator[str]:
    """Revisions not applied yet, oldest first, as `<revision> <title>`."""
    script = ScriptDirectory.from_config(config)
    options = {"version_table": f"{tree}_alembic_version"}
    done = MigrationContext.configure(connection, opts=options).get_current_heads()
    known = {one.revision for head in done for one in script.iterate_revisions(head, "base")}
    connection.commit()
    for one in reversed(list(script.walk_revisions())):
        if one.revision not in known:
            yield f"{one.revision} {one.doc}"
