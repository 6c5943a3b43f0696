"""`turnstile migrate`: brings tables and topics to what the services need."""

from __future__ import annotations

import asyncio
import enum
import textwrap
from typing import Annotated

import typer

from services.operator import addresses
from services.operator.failures import failing_clearly
from shared.settings import ArchiveSettings

# The steps import their client libraries when they run: `turnstile --help` needs none of them.


class Part(enum.StrEnum):
    """What can be migrated on its own."""

    sql = "sql"
    clickhouse = "clickhouse"
    topics = "topics"


def migrate(
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Say what would be done and change nothing.")
    ] = False,
    only: Annotated[
        list[Part] | None,
        typer.Option("--only", help="This part only; may be given again. Default: all three."),
    ] = None,
) -> None:
    """Bring SQL tables, ClickHouse tables and Kafka topics up to date.

    Goes forwards only and may be run again, or twice at once: what is there already is left alone.
    Run it before the services start and after every update.
    """
    steps = {Part.sql: _sql, Part.clickhouse: _clickhouse, Part.topics: _topics}
    for part, step in steps.items():
        if not only or part in only:
            step(dry_run)


def _sql(dry_run: bool) -> None:
    where = addresses.database()
    with failing_clearly(f"migrating {where.shown}", where.secrets):
        from infra.postgres.migrate import migrate as migrate_sql

        _tell("sql", where.shown, migrate_sql(where.url, dry_run=dry_run))


def _clickhouse(dry_run: bool) -> None:
    where = addresses.archive()
    with failing_clearly(f"migrating {where.shown}", where.secrets):
        from infra.clickhouse.migrate import migrate as migrate_clickhouse

        rules = ArchiveSettings().kept
        said: list[str] = []
        migrate_clickhouse(where.url, dry_run=dry_run, rules=rules, say=said.append)
        _tell("clickhouse", where.shown, said)


def _topics(dry_run: bool) -> None:
    where, options = addresses.log()
    with failing_clearly(f"creating topics at {where.shown}", where.secrets):
        from infra.kafka.topics import create_topics, find_drift

        if dry_run:
            done = asyncio.run(find_drift(where.url, client=options))
        else:
            created = asyncio.run(create_topics(where.url, client=options))
            done = [f"created {name}" for name in created]
        _tell("topics", where.shown, done)


def _tell(part: str, where: str, done: list[str]) -> None:
    typer.echo(f"{part} ({where}): {'up to date' if not done else ''}".rstrip())
    for step in done:
        typer.echo(textwrap.indent(step, "  "))
