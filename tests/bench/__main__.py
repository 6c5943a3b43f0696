"""`python -m tests.bench [leg ...]`: each leg against its bare baseline, in one run, as a ratio."""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import shutil
import signal
import sys
import time
from collections.abc import Awaitable, Callable, Sequence
from functools import partial
from pathlib import Path

from infra.local.errors import StackError
from tests.bench import accept, first_token, live, overhead, record, replay, sessions, whole
from tests.bench.child import ChildError
from tests.bench.options import Options
from tests.bench.profile import PROGRAM, Profiler
from tests.bench.results import Result, markdown, plain

LEGS: dict[str, Callable[[Options], Awaitable[Result]]] = {
    "accept": accept.measure,
    "first_token": first_token.measure,
    "live": live.measure,
    "overhead": overhead.measure,
    "record": record.measure,
    "replay": replay.measure,
    "sessions": sessions.measure,
    "sessions-50": partial(sessions.measure, sessions=50, turns=20),
    "sessions-1000": partial(sessions.measure, sessions=1_000, turns=2),
    "whole-50": partial(whole.measure, sessions=50, turns=20),
    "whole-200": partial(whole.measure, sessions=200, turns=5),
}


def main(arguments: Sequence[str] | None = None) -> int:
    """Exit code 0 when every leg was measured, whatever it came to; 1 when one could not be."""
    parser = _parser()
    asked = parser.parse_args(arguments)
    if asked.profile is not None and shutil.which(PROGRAM) is None:
        parser.error(f"--profile needs {PROGRAM} on the PATH: uv tool install {PROGRAM}")
    legs = list(dict.fromkeys(asked.leg or LEGS))
    try:
        results = asyncio.run(_all(legs, asked))
    except (KeyboardInterrupt, asyncio.CancelledError):
        _say("stopped")
        return 130
    if asked.json is not None:
        asked.json.write_text(json.dumps([result.as_json() for result in results], indent=2))
    sys.stdout.write((markdown if asked.markdown else plain)(results) + "\n")
    return 0 if len(results) == len(legs) else 1


async def _all(legs: Sequence[str], asked: argparse.Namespace) -> list[Result]:
    """The results of the legs that could be measured; why another could not be is said."""
    task = asyncio.current_task()
    assert task is not None
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, task.cancel)
    options = Options(asked.seconds, asked.rounds, _say, Profiler(asked.profile))
    load = ", ".join(f"{value:.1f}" for value in os.getloadavg())
    _say(f"{os.cpu_count()} cores, load before {load}; quiet machines give better figures")
    results = []
    for leg in legs:
        _say(f"{leg}:")
        began = time.monotonic()
        try:
            result = await LEGS[leg](options)
        except (StackError, ChildError) as error:
            _say(f"{leg}: not measured: {error}")
            continue
        results.append(result)
        _say(f"{leg}: ratio {result.ratio:.2f} after {time.monotonic() - began:.0f} s")
    return results


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m tests.bench",
        description="Measures Turnstile against the barest programs that do the same, on a stack "
        "of its own. What the legs mean: docs/performance.md.",
    )
    add = parser.add_argument
    add("leg", nargs="*", type=_leg, metavar="leg", help=f"{', '.join(LEGS)} (default: all)")
    add("--seconds", type=_positive, default=4.0,
        help="of one round of one side, roughly (default 4); sessions and whole count turns")  # fmt: skip
    add("--rounds", type=int, choices=range(1, 21), metavar="N",
        help="of each side, in turns; medians are reported (default 3, in sessions and whole 2)")  # fmt: skip
    add("--json", type=Path, metavar="FILE", help="write the results there as JSON too")
    add("--markdown", action="store_true", help="print the table as Markdown")
    add("--profile", type=Path, metavar="DIR",
        help="sample our processes with py-spy into DIR/<leg>.folded; figures suffer a little")  # fmt: skip
    return parser


def _leg(text: str) -> str:
    if text not in LEGS:
        raise argparse.ArgumentTypeError(f"no leg {text!r}; there are {', '.join(LEGS)}")
    return text


def _positive(text: str) -> float:
    value = float(text)
    if not 0 < value <= 600:
        raise argparse.ArgumentTypeError("more than 0, 600 at most")
    return value


def _say(text: str) -> None:
    sys.stderr.write(f"{text}\n")
    sys.stderr.flush()


if __name__ == "__main__":
    sys.exit(main())
