"""Leg `scale`: fixed work on one, two and four workers, and on one and two processes of the gateway.

Where there are fewer cores than processes the rate cannot grow with them. What a turn costs in processor time tells
then how well it would: more processes are worth their number if it stays the same.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from contextlib import AsyncExitStack
from statistics import median
from typing import Any

from tests.bench.accept import CONNECTIONS, press
from tests.bench.cpu import family_seconds
from tests.bench.options import Options
from tests.bench.parts import running
from tests.bench.sessions import driven, wishes
from tests.bench.wire import open_sessions

WORKERS, GATEWAYS = (1, 2, 4), (1, 2)
SESSIONS, TURNS = 200, 10
PRESS_S, WARM_UP_S = 4.0, 1.0
Figures = dict[str, float]


async def measure(options: Options, rounds: int) -> dict[str, Any]:
    """Medians of `rounds`, each count on a stack of its own. `efficiency`: the rate over that of as many times one;
    `by processor`: what a turn costs one, over what it costs them. Raises StackError, ChildError."""
    workers = {count: await _workers(options, count, rounds) for count in WORKERS}
    gateways = {count: await _gateways(options, count, rounds) for count in GATEWAYS}
    return {
        "cores": os.cpu_count(),
        "workers": _compared(workers),
        "gateway processes": _compared(gateways),
    }


async def _workers(options: Options, count: int, rounds: int) -> Figures:
    """Turns of SESSIONS at once through the workers, the first round of which is not told."""
    ground = ("kafka", "postgres", "clickhouse", "simulator")
    async with AsyncExitStack() as stack:
        parts = await stack.enter_async_context(
            running(ground, options.say, options.profiler, workers=count)
        )
        names = [f"agent-worker-{number}" for number in range(1, count + 1)]
        pids = {name: await stack.enter_async_context(parts.service(name)) for name in names}
        found = []
        for number in range(rounds + 1):
            await parts.rest()
            found.append(await driven(parts, pids, list(wishes(number, SESSIONS, TURNS))))
    told = [{"per second": one.rate, "cpu ms": one.cpu_ms} for one in found[1:]]
    return _middle(options, f"{count} workers", told)


async def _gateways(options: Options, count: int, rounds: int) -> Figures:
    """Turns accepted by a gateway of so many processes that serve HTTP."""
    ground = ("kafka", "postgres", "clickhouse")
    async with AsyncExitStack() as stack:
        parts = await stack.enter_async_context(
            running(ground, options.say, options.profiler, TURNSTILE_GATEWAY_PROCESSES=str(count))
        )
        pid = await stack.enter_async_context(parts.service("gateway"))
        url = parts.addresses.gateway
        await open_sessions(url, parts.headers, (f"bench-{each}" for each in range(CONNECTIONS)))
        await press(parts, url, WARM_UP_S)
        told = []
        for _ in range(rounds):
            await parts.rest()
            before = family_seconds(pid)
            facts = await press(parts, url, PRESS_S)
            await parts.rest()
            used = 1000 * (family_seconds(pid) - before) / facts["count"]
            told.append({"per second": facts["count"] / facts["seconds"], "cpu ms": used})
    return _middle(options, f"{count} gateway processes", told)


def _middle(options: Options, what: str, told: list[Figures]) -> Figures:
    options.say(f"  {what}: {told}")
    return {name: round(median(one[name] for one in told), 3) for name in told[0]}


def _compared(found: Mapping[int, Figures]) -> dict[int, Figures]:
    alone = found[1]
    return {
        count: {
            **figures,
            "efficiency": round(figures["per second"] / count / alone["per second"], 2),
            "by processor": round(alone["cpu ms"] / figures["cpu ms"], 2),
        }
        for count, figures in found.items()
    }
