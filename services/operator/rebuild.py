"""`turnstile rebuild`: make what is derived from recorded events anew, from the events alone."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from typing import Annotated

import typer

from services.operator import addresses
from services.operator.failures import failing_clearly

_SAY_EVERY_S = 1.0


def rebuild() -> typer.Typer:
    """The `rebuild` commands."""
    cli = typer.Typer(
        help="Make what is derived from recorded events anew, from the events alone.",
        no_args_is_help=True,
        rich_markup_mode=None,
    )
    cli.command("archive")(archive)
    cli.command("sessions")(sessions)
    return cli


def archive(
    tables: Annotated[
        list[str] | None,
        typer.Option("--table", help="This table only; may be given again. Default: all of them."),
    ] = None,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Say what would be done and change nothing.")
    ] = False,
) -> None:
    """Rebuild ClickHouse's derived tables (turns, tool_calls, …) from session_events, while everything runs.

    Each table is made anew beside the old one, which takes as much disk again, and the two are exchanged in one
    step: readers and the recorder notice nothing. Run it again after a kill: it goes on where it was. What the
    events no longer tell, because their retention is over, is not in the new table.
    """
    where = addresses.archive()
    with failing_clearly(f"rebuilding {where.shown}", where.secrets):
        from infra.clickhouse.connection import connect
        from infra.clickhouse.rebuild import Rebuild, chosen

        server, database = connect(where.url)
        server.database = database
        for derived in chosen(server, tables or ()):
            work = Rebuild(server, derived, _now_and_then())
            if dry_run:
                typer.echo(work.foresee())
                continue
            done = work.run()
            typer.echo(
                f"{done.table}: {done.now:,} rows, before {done.before:,}; {done.seconds:.1f} s"
            )


def sessions(
    tenant: Annotated[str | None, typer.Option("--tenant", help="Of this tenant only.")] = None,
    session: Annotated[str | None, typer.Option("--session", help="This session only.")] = None,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Say how many it would be and change nothing.")
    ] = False,
) -> None:
    """Have the gateway make its rows of sessions and turns anew, from the archive and then the log.

    Marks the rows; a running gateway folds them within ten minutes, one after the other, and at once when an event
    of the session comes. Until then they show what they did. `GET /v1/sessions` answers all the while.
    """
    where = addresses.database()
    with failing_clearly(f"marking sessions in {where.shown}", where.secrets):
        from services.operator.database import unfold

        count = asyncio.run(unfold(where.url, tenant, session, keep=not dry_run))
        typer.echo(f"sessions: {count:,} {'would be made' if dry_run else 'are being made'} anew")


def _now_and_then() -> Callable[[str], None]:
    """Progress on stderr, a line a second at most."""
    last = 0.0

    def say(line: str) -> None:
        nonlocal last
        if time.monotonic() - last >= _SAY_EVERY_S:
            last = time.monotonic()
            typer.echo(line, err=True)

    return say
