"""`python -m tests.synthetic`: events of people and agents that never were."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from datetime import date
from pathlib import Path

from tests.synthetic.copies import Plan, sessions
from tests.synthetic.loading import BATCH, load

ABOUT = """Makes synthetic events, shaped like the recorded ones: sessions of a few turns with tools, approvals,
child agents, failures and retries, of users of several tenants over some months. The same options give
the same bytes. Without --into they are written as JSON lines, the values of turnstile.events.v1."""


def main(arguments: Sequence[str] | None = None) -> int:
    """Exit code 0 when all were made."""
    asked = _parser().parse_args(arguments)
    plan = Plan(
        asked.events,
        asked.seed,
        asked.until,
        asked.days,
        asked.tenants,
        asked.users,
        asked.patterns,
    )
    if asked.into:
        load(asked.into, plan, asked.batch, _say)
    elif asked.out:
        with asked.out.open("wb") as file:
            file.writelines(text for text, _ in sessions(plan))
    else:
        try:
            sys.stdout.buffer.writelines(text for text, _ in sessions(plan))
        except BrokenPipeError:
            return 1
    return 0


def _parser() -> argparse.ArgumentParser:
    usual = Plan(0)
    parser = argparse.ArgumentParser(prog="python -m tests.synthetic", description=ABOUT)
    add = parser.add_argument
    add("--events", type=_positive, default=10_000, help="how many (10,000)")
    add("--seed", type=int, default=usual.seed, help="another seed, other events (%(default)s)")
    add("--days", type=_positive, default=usual.days, help="over how many days (%(default)s)")
    add("--until", type=date.fromisoformat, default=usual.until, metavar="YYYY-MM-DD",
        help="the last day on which a session begins (%(default)s)")  # fmt: skip
    add("--tenants", type=_positive, default=usual.tenants,
        help="how many; `acme` is the largest (%(default)s)")  # fmt: skip
    add("--users", type=_positive, default=usual.users, help="of each tenant (%(default)s)")
    add("--patterns", type=_positive, default=usual.patterns,
        help="unlike sessions of which copies are made (%(default)s)")  # fmt: skip
    add("--out", type=Path, metavar="FILE", help="write them there (default: stdout)")
    add("--into", metavar="URL",
        help="insert them into this migrated database: http://user:password@host:port/database")  # fmt: skip
    add("--batch", type=_positive, default=BATCH, help="rows an insert, with --into (%(default)s)")
    return parser


def _positive(text: str) -> int:
    value = int(text.replace("_", "").replace(",", ""))
    if value < 1:
        raise argparse.ArgumentTypeError("a number above 0, please")
    return value


def _say(text: str) -> None:
    sys.stderr.write(f"{text}\n")
    sys.stderr.flush()


if __name__ == "__main__":
    sys.exit(main())
