"""`python -m tests.bench.bounds memory|aged`: what is bounded, measured on a stack of its own.

`memory`: the worker's resident memory with thousands of sessions in flight, the log away and all queues full.
`aged`: what a turn costs in a session with very many events, against one in a young session; counted, not timed.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import sys
from collections.abc import Sequence

from infra.local.errors import StackError
from tests.bench import aged, memory
from tests.bench.child import ChildError
from tests.bench.options import Options
from tests.bench.profile import Profiler


def main(arguments: Sequence[str] | None = None) -> int:
    """Exit code 0 when it was measured, 1 when it could not be."""
    asked = _parser().parse_args(arguments)
    options = Options(0.0, None, _say, Profiler(None))
    _say(f"{os.cpu_count()} cores, load before {os.getloadavg()[0]:.1f}")
    measuring = (
        memory.measure(options, asked.sessions, asked.queued)
        if asked.leg == "memory"
        else aged.measure(options, asked.events, asked.turns)
    )
    try:
        found = asyncio.run(measuring)
    except (StackError, ChildError, TimeoutError) as error:
        _say(f"not measured: {error}")
        return 1
    sys.stdout.write(json.dumps(found, indent=2) + "\n")
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m tests.bench.bounds", description=__doc__)
    legs = parser.add_subparsers(dest="leg", required=True)
    full = legs.add_parser("memory", help="resident memory of a worker whose queues are full")
    full.add_argument("--sessions", type=int, default=2_000, help="in flight (default 2000)")
    full.add_argument("--queued", type=int, default=5, help="turns that wait in each (default 5)")
    old = legs.add_parser("aged", help="a turn's work in an old session and in a young one")
    old.add_argument("--events", type=int, default=100_000, help="before the turn (default 100000)")
    old.add_argument("--turns", type=int, default=5, help="turns measured in each (default 5)")
    return parser


def _say(text: str) -> None:
    sys.stderr.write(f"{text}\n")
    sys.stderr.flush()


if __name__ == "__main__":
    sys.exit(main())
