"""`turnstile`: the operator's command line. Every address comes from the environment, as for the services."""

from __future__ import annotations

import typer

from services.operator.audit import audit
from services.operator.dead import dead
from services.operator.diff import diff
from services.operator.erase import erase
from services.operator.export import export
from services.operator.migrate import migrate
from services.operator.orphans import orphans_command
from services.operator.rebuild import rebuild
from services.operator.replay import replay
from services.operator.rerun import rerun
from services.operator.state import state

ABOUT = """Keeps a Turnstile running: tables and topics, dead letters, replays of sessions, audits.

Addresses come from the environment: TURNSTILE_KAFKA_BOOTSTRAP (127.0.0.1:9092),
TURNSTILE_DATABASE_URL (PostgreSQL on 127.0.0.1:5433) and TURNSTILE_CLICKHOUSE_URL
(http://127.0.0.1:8123/turnstile). `make up` uses the same defaults. Audits also ask the provider:
ANTHROPIC_API_KEY and ANTHROPIC_BASE_URL.

Exit codes: 0 done, 1 it could not be done (the message says why), 2 wrong usage; `audit`, `diff` and `rerun`
have their own.
"""


def build() -> typer.Typer:
    """The command line with all its commands."""
    cli = typer.Typer(
        name="turnstile",
        help=ABOUT,
        no_args_is_help=True,
        add_completion=False,
        pretty_exceptions_enable=False,
        rich_markup_mode=None,
    )
    cli.command()(migrate)
    cli.command()(replay)
    cli.command()(state)
    cli.command()(diff)
    cli.command()(erase)
    cli.command()(export)
    cli.command()(rerun)
    cli.command()(audit)
    cli.command("orphans")(orphans_command)
    cli.add_typer(dead(), name="dead")
    cli.add_typer(rebuild(), name="rebuild")
    return cli


def main() -> None:
    build()()


if __name__ == "__main__":
    main()
