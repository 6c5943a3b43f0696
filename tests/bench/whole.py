"""Leg `whole`: turns a second of clients that post and listen through the gateway, against the SDK loop; and beside
it the barest program of the same shape.

The last one, `pipeline`, is a gateway and a worker that keep nothing and promise nothing (`pipeline_gateway.py`,
`pipeline_worker.py`), on the same log and with the same clients: what packages and machine allow.

Gateway, one worker and the recorder run as in `make up`. Each client has a session of its own, posts a turn once it
has heard the end of the one before, and keeps its stream open. Answers 503 and streams that end are counted.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from contextlib import AsyncExitStack
from dataclasses import dataclass
from itertools import product
from statistics import median
from typing import Any

from tests.bench import child
from tests.bench.cpu import family_seconds
from tests.bench.figures import rounds_of
from tests.bench.options import Options
from tests.bench.parts import Parts, running
from tests.bench.pipeline import pipeline
from tests.bench.results import Result
from tests.bench.sessions import TEXT, bare_order

ROUNDS = 2
TARGET = 0.7
IN_TIME_S = 240.0
WARM_UP = 10, 3  # sessions and turns that are not told of: the first ones load what a process needs
SERVICES = ("gateway", "agent-worker-1", "recorder")
GROUND = ("kafka", "postgres", "clickhouse", "simulator")
SIDES = ("ours", "sdk", "raw", "pipeline")


@dataclass(frozen=True, slots=True)
class Round:
    """What the clients tell, and processor milliseconds a turn of each process."""

    facts: dict[str, Any]
    cpu_ms: dict[str, float]

    @property
    def rate(self) -> float:
        return float(self.facts["turns"] / self.facts["seconds"])


async def measure(options: Options, sessions: int, turns: int) -> Result:
    """Rounds of all sides in turns on one simulator; `seconds` plays no part."""
    found: dict[str, list[Round]] = {side: [] for side in SIDES}
    async with AsyncExitStack() as stack:
        parts = await stack.enter_async_context(running(GROUND, options.say, options.profiler))
        pids = {
            name: await stack.enter_async_context(parts.service(name))
            for name in reversed(SERVICES)
        }
        pids |= {name: parts.pid(name) for name in GROUND}
        rounds = options.rounds or ROUNDS
        # Its streams stay open: all rounds' sessions and those of the warm-up are there at the end.
        url, its = await stack.enter_async_context(pipeline(parts, (rounds + 1) * sessions))
        its |= {name: parts.pid(name) for name in ("kafka", "simulator")}
        for warmed, processes in ((parts.addresses.gateway, pids), (url, its)):
            await _talks(parts, warmed, processes, *WARM_UP)
        for _, side in product(range(rounds), SIDES):
            await parts.rest()
            if side == "ours":
                async with parts.profiler.watching(f"whole-{sessions}", pids["gateway"]):
                    done = await _talks(parts, parts.addresses.gateway, pids, sessions, turns)
            elif side == "pipeline":
                done = await _talks(parts, url, its, sessions, turns)
            else:
                done = await _bare(parts, pids, sessions, turns, side)
            found[side].append(done)
            options.say(f"  {side}: {done.rate:.0f} turns/s")
    return _result(f"whole-{sessions}", found)


async def _talks(parts: Parts, url: str, pids: dict[str, int], sessions: int, turns: int) -> Round:
    told = {
        "url": url,
        "headers": parts.headers,
        "run": time.time_ns(),
        "sessions": sessions,
        "turns": turns,
        "text": TEXT,
    }
    return await _round("tests.bench.talking", told, pids)


async def _bare(
    parts: Parts, pids: dict[str, int], sessions: int, turns: int, reading: str
) -> Round:
    told = bare_order(parts, sessions, turns, reading)
    return await _round("tests.bench.bare_sessions", told, {"simulator": pids["simulator"]})


async def _round(module: str, told: dict[str, Any], pids: dict[str, int]) -> Round:
    before = {name: family_seconds(pid) for name, pid in pids.items()}
    facts = await child.run(module, told, IN_TIME_S)
    used = {name: family_seconds(pid) - before[name] for name, pid in pids.items()}
    used["clients"] = facts["cpu_seconds"]
    return Round(facts, {name: 1000 * cpu / facts["turns"] for name, cpu in used.items()})


def _result(leg: str, found: dict[str, list[Round]]) -> Result:
    def of(side: str, pick: Callable[[Round], float]) -> float:
        return median(pick(done) for done in found[side])

    def spread(side: str) -> tuple[float, float]:
        return of(side, lambda d: d.facts["p50_ms"]), of(side, lambda d: d.facts["p99_ms"])

    def cpu(side: str) -> str:
        rounds = [done.cpu_ms for done in found[side]]
        each = {name: median(one[name] for one in rounds) for name in rounds[0]}
        words = ", ".join(f"{name} {value:.2f}" for name, value in each.items())
        return f"{words}, together {sum(each.values()):.2f}"

    busy, cut = (sum(done.facts[name] for done in found["ours"]) for name in ("busy", "cut"))
    rates = {side: [done.rate for done in found[side]] for side in SIDES}
    middle = {side: median(rates[side]) for side in SIDES}
    raw, barest = (
        ", ".join(f"{rate:,.0f}" for rate in rates[side]) for side in ("raw", "pipeline")
    )
    return Result(
        leg=leg,
        unit="turns/s",
        ours=middle["ours"],
        bare=middle["sdk"],
        target=TARGET,
        ours_ms=spread("ours"),
        bare_ms=spread("sdk"),
        notes=[
            f"{busy} answers 503, {cut} streams that ended or were refused (wanted: none)",
            rounds_of(rates["ours"], rates["sdk"], "turns/s"),
            f"the loop that reads raw lines: {raw}; ratio {middle['ours'] / middle['raw']:.2f}",
            f"the barest pipeline: {barest}; {middle['pipeline'] / middle['sdk']:.2f} of the SDK loop",
            "CPU a turn in ms: " + "; ".join(f"{side} {cpu(side)}" for side in SIDES),
        ],
    )
