"""`turnstile`: the operator's command line. Every address comes from the environment, as for the services."""

from __future__ import annotations

import gc

import typer

from services.operator.lazily import lazily

ABOUT = """Keeps a Turnstile running: tables and topics, dead letters, replays of sessions, audits.

Addresses come from the environment: TURNSTILE_KAFKA_BOOTSTRAP (127.0.0.1:9092),
TURNSTILE_DATABASE_URL (PostgreSQL on 127.0.0.1:5433) and TURNSTILE_CLICKHOUSE_URL
(http://127.0.0.1:8123/turnstile). `make up` uses the same defaults. Audits also ask the provider:
ANTHROPIC_API_KEY and ANTHROPIC_BASE_URL.

Exit codes: 0 done, 1 it could not be done (the message says why), 2 wrong usage; `audit`, `diff`, `rerun`,
`agents` and `cost reconcile` have their own.
"""


# As many new objects as set off a collection.
YOUNG_OBJECTS = 50_000
COMMANDS = {
    "migrate": "services.operator.migrate:migrate",
    "replay": "services.operator.replays.replay:replay",
    "state": "services.operator.replays.state:state",
    "diff": "services.operator.replays.diff:diff",
    "rerun": "services.operator.reruns.rerun:rerun",
    "agents": "services.operator.agents.commands:agents",
    "cost": "services.operator.costs.cost:cost",
    "export": "services.operator.exports.export:export",
    "rebuild": "services.operator.rebuild:rebuild",
    "vaults": "services.operator.vaults:vaults",
    "erase": "services.operator.erasing.erase:erase",
    "audit": "services.operator.audits.audit:audit",
    "orphans": "services.operator.audits.orphans:orphans_command",
    "dead": "services.operator.dead.commands:dead",
}


def build() -> typer.Typer:
    """The command line with all its commands."""
    cli = typer.Typer(
        name="turnstile",
        cls=lazily(COMMANDS),
        help=ABOUT,
        no_args_is_help=True,
        add_completion=False,
        pretty_exceptions_enable=False,
        rich_markup_mode=None,
    )
    cli.callback()(_nothing)
    return cli


def _nothing() -> None:
    """A group that has no command of its own needs something to be called."""


def main() -> None:
    # What imports make stays: looking through it again and again is a fifth of the time they take.
    gc.set_threshold(YOUNG_OBJECTS, 20, 50)
    build()()


if __name__ == "__main__":
    main()
