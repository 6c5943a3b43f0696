"""`python -m tests.year`: a year of many users in minutes, and a judgement."""

from __future__ import annotations

import argparse
import asyncio
import gc
import json
import logging
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

import structlog

from tests.stack import running_parts, temporary_root
from tests.year.play import Options, Year, play

SHOWN = 40
Tell = Callable[[str], None]


def main(arguments: Sequence[str] | None = None) -> int:
    """Exit code 0 when every promise was kept, 1 when one was not."""
    asked = _parser().parse_args(arguments)
    logging.disable(logging.CRITICAL)  # dead workers complain
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(logging.CRITICAL))
    gc.set_threshold(
        100_000, 50, 100
    )  # what is kept grows all year: looking through it costs most of the time
    began = time.monotonic()
    options = Options(
        asked.users, asked.days, asked.workers, asked.seed, asked.visits, asked.kill_after
    )

    def tell(text: str) -> None:
        _say(f"{time.monotonic() - began:6.0f} s  {text}")

    judged = STORES[asked.store](options, tell).judged()
    for name, value in judged.figures.items():
        sys.stdout.write(f"{name:50} {value}\n")
    for wrong in judged.wrong[:SHOWN]:
        sys.stdout.write(f"WRONG: {wrong}\n")
    if len(judged.wrong) > SHOWN:
        sys.stdout.write(f"… and {len(judged.wrong) - SHOWN} more (--json FILE has all)\n")
    if asked.json is not None:
        found = {"figures": judged.figures, "wrong": list(judged.wrong)}
        asked.json.write_text(json.dumps(found, indent=1))
    verdict = "FAILED" if judged.wrong else "passed"
    sys.stdout.write(f"seed {asked.seed}: {verdict} in {time.monotonic() - began:.0f} s\n")
    return 1 if judged.wrong else 0


def _on_sqlite(options: Options, tell: Tell) -> Year:
    with temporary_root() as root:
        return play(replace(options, url=f"sqlite+aiosqlite:///{root / 'year.db'}"), tell)


def _on_postgresql(options: Options, tell: Tell) -> Year:
    """On a server of its own, without fsync."""

    async def beside() -> Year:
        async with running_parts("postgres") as settings:
            url = f"postgresql+asyncpg://postgres@127.0.0.1:{settings.ports['postgres']}/year"
            return await asyncio.to_thread(play, replace(options, url=url), tell)

    return asyncio.run(beside())


STORES: dict[str, Callable[[Options, Tell], Year]] = {
    "memory": play,
    "sqlite": _on_sqlite,
    "postgresql": _on_postgresql,
}


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m tests.year",
        description="Plays users for a year of virtual time: workers in this process, killed by chance, over the "
        "provider in memory that the unit tests use, and over their store or a real database (--store). Checks "
        "that each turn was sent once and ended once, that no provider session was left behind, that the ledger is "
        "the bill and that caps held.",
    )
    add = parser.add_argument
    add("--users", type=_count, default=1000, help="default 1000")
    add("--days", type=_count, default=365, help="default 365")
    add("--workers", type=_count, default=8, help="at the same time (default 8)")
    add("--seed", type=int, default=1, help="the same seed is the same year (default 1)")
    add("--visits", type=float, default=12.0, help="of each user in a year (default 12)")
    add(
        "--kill-after",
        type=int,
        default=500,
        metavar="N",
        help="a worker dies after N side effects, on average; 0: none does (default 500)",
    )
    add(
        "--store", choices=STORES, default="memory", help="where sessions are kept (default memory)"
    )
    add("--json", type=Path, metavar="FILE", help="write figures and all that was wrong there")
    return parser


def _count(text: str) -> int:
    value = int(text)
    if value < 1:
        raise argparse.ArgumentTypeError("at least 1")
    return value


def _say(text: str) -> None:
    sys.stderr.write(f"{text}\n")
    sys.stderr.flush()


if __name__ == "__main__":
    sys.exit(main())
