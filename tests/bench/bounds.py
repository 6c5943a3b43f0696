"""`python -m tests.bench.bounds LEG`: what is bounded, measured on a stack of its own.

`memory`: the worker's resident memory with thousands of sessions in flight, the log away and all queues full.
`in_flight`: what each of thousands of sessions in flight costs the worker in memory.
`aged`: what a turn costs in a session with very many events, against one in a young session; counted, not timed.
`crowded`: what a turn costs where a million sessions are known, against a new stack.
`start`: `make up` until it is ready, and the imports of our processes.
`scale`: fixed work on one, two and four workers, and on one and two processes of the gateway.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import sys
from collections.abc import Sequence
from typing import Any

from infra.local.errors import StackError
from tests.bench import aged, crowded, in_flight, memory, scale, starting
from tests.bench.child import ChildError
from tests.bench.options import Options
from tests.bench.profile import Profiler


def main(arguments: Sequence[str] | None = None) -> int:
    """Exit code 0 when it was measured, 1 when it could not be."""
    asked = _parser().parse_args(arguments)
    options = Options(0.0, None, _say, Profiler(None))
    _say(f"{os.cpu_count()} cores, load before {os.getloadavg()[0]:.1f}")
    try:
        found = asyncio.run(_measured(asked, options))
    except (StackError, ChildError, TimeoutError) as error:
        _say(f"not measured: {error}")
        return 1
    sys.stdout.write(json.dumps(found, indent=2) + "\n")
    return 0


async def _measured(asked: argparse.Namespace, options: Options) -> dict[str, Any]:
    if asked.leg == "memory":
        return await memory.measure(options, asked.sessions, asked.queued)
    if asked.leg == "in_flight":
        return await in_flight.measure(options, asked.sessions)
    if asked.leg == "aged":
        return await aged.measure(options, asked.events, asked.turns)
    if asked.leg == "crowded":
        return await crowded.measure(options, asked.known)
    if asked.leg == "scale":
        return await scale.measure(options, asked.rounds)
    return await starting.measure(options, asked.rounds)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m tests.bench.bounds", description=__doc__)
    legs = parser.add_subparsers(dest="leg", required=True)
    full = legs.add_parser("memory", help="resident memory of a worker whose queues are full")
    full.add_argument("--sessions", type=int, default=2_000, help="in flight (default 2000)")
    full.add_argument("--queued", type=int, default=5, help="turns that wait in each (default 5)")
    held = legs.add_parser(
        "in_flight", help="resident memory of a worker for each session in flight"
    )
    held.add_argument("--sessions", type=int, default=5_000, help="in flight (default 5000)")
    old = legs.add_parser("aged", help="a turn's work in an old session and in a young one")
    old.add_argument("--events", type=int, default=100_000, help="before the turn (default 100000)")
    old.add_argument("--turns", type=int, default=5, help="turns measured in each (default 5)")
    many = legs.add_parser("crowded", help="a turn where very many sessions are known")
    many.add_argument("--known", type=int, default=1_000_000, help="sessions (default 1000000)")
    start = legs.add_parser("start", help="make up until it is ready, and imports")
    start.add_argument("--rounds", type=int, default=3, help="medians are reported (default 3)")
    wide = legs.add_parser("scale", help="fixed work on more workers and more gateway processes")
    wide.add_argument("--rounds", type=int, default=3, help="medians are reported (default 3)")
    return parser


def _say(text: str) -> None:
    sys.stderr.write(f"{text}\n")
    sys.stderr.flush()


if __name__ == "__main__":
    sys.exit(main())
