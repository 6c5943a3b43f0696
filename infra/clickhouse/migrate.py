"""Brings the schema of a ClickHouse database up to date, forwards only.

The files of `migrations/` run in the order of their numbers and are recorded with a checksum in
`schema_migrations`. Every statement in them can be repeated (IF NOT EXISTS), so two processes that
start at once, or one that was killed half way, do no harm: ClickHouse has no lock to hold. A migration that makes
a table derived from the events fills it from those that are there. A setting of a table that the server is too old
to know is left out: it says how rows are kept, not what they are.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from clickhouse_connect.driver.client import Client

from infra.clickhouse import retention
from infra.clickhouse.backfill import fill
from infra.clickhouse.connection import BadAddress, connect
from shared.retention import Rule

MIGRATIONS = Path(__file__).with_name("migrations")

_FILE = re.compile(r"(\d{4})_([a-z0-9_]+)\.sql")
_VIEW = re.compile(r"CREATE MATERIALIZED VIEW IF NOT EXISTS (\w+)")
_SETTING = re.compile(r"ALTER TABLE \w+ MODIFY SETTING (\w+)")
_RECORD_TABLE = """
CREATE TABLE IF NOT EXISTS schema_migrations
(version UInt32, name String, checksum String, applied_at DateTime64(3, 'UTC') DEFAULT now64(3))
ENGINE = ReplacingMergeTree ORDER BY version"""


class MigrationError(Exception):
    """The schema cannot be brought up to date; the message names the file and the way out."""


@dataclass(frozen=True, slots=True)
class Migration:
    version: int
    name: str
    checksum: str
    statements: tuple[str, ...]


def migrate(
    url: str,
    *,
    dry_run: bool = False,
    rules: Sequence[Rule] = (),
    say: Callable[[str], None] = print,
    directory: Path = MIGRATIONS,
) -> list[str]:
    """Apply what is missing in the database of `url` and set the retention; return what was done.

    `url`: `http(s)://user:password@host:port/database`; the database is created if absent.
    `rules`: how long rows are kept (`shared.retention`), for ever without any. `say` gets each step, and with
    `dry_run` its SQL, and then nothing is changed. Nothing to do gives an empty list.

    Raises MigrationError for files that are out of order, changed after they were applied, or
    older than the schema; clickhouse-connect's errors when the server does not answer.
    """
    files = read_migrations(directory)
    try:
        server, database = connect(url)
    except BadAddress as error:
        raise MigrationError(str(error)) from None
    try:
        if not _exists(server, database):
            if dry_run:
                steps = [_step(say, m, dry_run) for m in files]
                held = [one for one in retention.TABLES if retention.ttl(one, rules)]
                return steps + [_retention_step(say, one, rules, dry_run) for one in held]
            server.command(f"CREATE DATABASE IF NOT EXISTS {database}")
        server.database = database
        done = [_apply(server, m, dry_run, say) for m in missing(files, _applied(server))]
        return done + _set_retention(server, rules, dry_run, say)
    finally:
        server.close()


def read_migrations(directory: Path) -> list[Migration]:
    """The files in order. Raises MigrationError unless they are numbered 0001, 0002, …"""
    found = []
    for path in sorted(directory.glob("*.sql")):
        name = _FILE.fullmatch(path.name)
        if name is None:
            raise MigrationError(f"{path.name}: the name must be NNNN_name.sql")
        text = path.read_text().replace("\r\n", "\n")
        checksum = hashlib.sha256(text.encode()).hexdigest()
        found.append(Migration(int(name.group(1)), path.stem, checksum, split(text)))
    for expected, migration in enumerate(found, start=1):
        if migration.version != expected:
            raise MigrationError(f"{migration.name}.sql: number {expected:04} expected here")
    return found


def split(text: str) -> tuple[str, ...]:
    """The statements of a file: each ends with a semicolon at the end of a line."""
    lines = [line for line in text.splitlines() if not line.lstrip().startswith("--")]
    parts = ("\n".join(lines) + "\n").split(";\n")
    return tuple(part.strip() for part in parts if part.strip())


def missing(files: Sequence[Migration], applied: dict[int, tuple[str, str]]) -> list[Migration]:
    """The files yet to run, given what is recorded: version -> (name, checksum)."""
    latest = max(applied, default=0)
    if latest > len(files):
        raise MigrationError(
            f"the schema is at {applied[latest][0]}, newer than this program: update the program"
        )
    for migration in files[:latest]:
        if migration.version not in applied:
            raise MigrationError(f"{migration.name}.sql was never applied, but later ones were")
        if applied[migration.version][1] != migration.checksum:
            raise MigrationError(
                f"{migration.name}.sql was changed after it was applied: put it back as it was "
                "and write the change as a new migration"
            )
    return list(files[latest:])


def _exists(server: Client, database: str) -> bool:
    return bool(server.command(f"EXISTS DATABASE {database}"))


def _applied(server: Client) -> dict[int, tuple[str, str]]:
    if not server.command("EXISTS TABLE schema_migrations"):
        return {}
    rows = server.query("SELECT version, name, checksum FROM schema_migrations FINAL").result_rows
    return {version: (name, checksum) for version, name, checksum in rows}


def _apply(server: Client, migration: Migration, dry_run: bool, say: Callable[[str], None]) -> str:
    step = _step(say, migration, dry_run)
    if dry_run:
        return step
    for statement in migration.statements:
        if (setting := _SETTING.match(statement)) and not _knows(server, setting.group(1)):
            say(f"{migration.name}: this ClickHouse has no {setting.group(1)}, left out")
            continue
        server.command(statement)
        if made := _VIEW.match(statement):
            # Before the migration counts as applied: one that dies here is done again.
            fill(server, made.group(1), say)
    server.command(_RECORD_TABLE)
    server.insert(
        "schema_migrations",
        [(migration.version, migration.name, migration.checksum)],
        column_names=["version", "name", "checksum"],
    )
    return step


def _knows(server: Client, setting: str) -> bool:
    sql = "SELECT count() FROM system.merge_tree_settings WHERE name = {setting:String}"
    return bool(server.query(sql, parameters={"setting": setting}).result_rows[0][0])


def _step(say: Callable[[str], None], migration: Migration, dry_run: bool) -> str:
    step = f"{'would apply' if dry_run else 'apply'} {migration.name}"
    say("\n".join([step, *(f"{sql};" for sql in migration.statements if dry_run)]))
    return step


def _set_retention(
    server: Client, rules: Sequence[Rule], dry_run: bool, say: Callable[[str], None]
) -> list[str]:
    return [
        _retention_step(say, table, rules, dry_run)
        for table in retention.TABLES
        if retention.set_retention(server, table, rules, dry_run=dry_run)
    ]


def _retention_step(
    say: Callable[[str], None], table: str, rules: Sequence[Rule], dry_run: bool
) -> str:
    step = f"{'would keep' if dry_run else 'keep'} {table} {retention.words(table, rules)}"
    say(step)
    return step
