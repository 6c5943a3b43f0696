"""Leg `aged`: the cost of a turn in a session with very many events. Work is counted, so load does not matter.

Old and young session take turns. Before each turn the session was let go of, so that taking it up again, opening
its stream and reading its list are part of the cost. Windows of the same length without a turn are subtracted.
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import Mapping
from contextlib import AsyncExitStack
from statistics import median
from typing import Any

import asyncpg

from shared.bus.topics import INPUTS
from tests.bench.asking import WORKER, metric, until, wish
from tests.bench.child import ChildError
from tests.bench.cpu import cpu_seconds
from tests.bench.kafka_log import producing, publish
from tests.bench.options import Options
from tests.bench.parts import Parts, running
from tests.bench.process import MIB, resident, transferred

ONE = 20_000  # events of one turn, the most the simulator makes
WINDOW_S = 9.0  # a turn, and the five seconds until its session is let go of
GROWING_S = 600.0
ENDED = "turnstile_turns_ended_total"
SIZES = """
SELECT (SELECT length(state) FROM worker_heads WHERE session_id = $1),
       (SELECT length(body) FROM gateway_sessions WHERE session_id = $1)
"""
Counted = dict[str, float]


async def measure(options: Options, events: int, turns: int) -> dict[str, Any]:
    """Medians of `turns` turns in a session with `events` events and in one with ten."""
    ground = ("kafka", "postgres", "clickhouse", "simulator")
    async with AsyncExitStack() as stack:
        parts = await stack.enter_async_context(running(ground, options.say, options.profiler))
        pids = {
            name: await stack.enter_async_context(parts.service(name))
            for name in (WORKER, "gateway")
        }
        before = resident(pids[WORKER])
        await _grow(parts, events)
        grown = resident(pids[WORKER])
        found: dict[str, list[Counted]] = {"old": [], "young": []}
        idle = await _window(parts, pids, None, 0)
        for number in range(turns):
            for age, windows in found.items():
                windows.append(await _window(parts, pids, age, number))
                options.say(f"  {age}: {windows[-1]}")
        sizes = await _sizes(parts)
    return {
        "events before": events,
        **_compared(found, idle),
        **sizes,
        "worker MiB before, after": [before // MIB, grown // MIB],
        "load": os.getloadavg()[0],
    }


async def _grow(parts: Parts, events: int) -> None:
    async with producing(parts.addresses.kafka) as producer:
        await publish(producer, INPUTS.name, [wish("young", "first", "[[script: reply]] hello")])
        await until(parts, ENDED, 1, 60)
        for turn in range(-(-events // ONE)):
            text = f"[[script: long events={min(ONE, events - turn * ONE)}]] work"
            await publish(producer, INPUTS.name, [wish("old", f"grow-{turn}", text)])
            await until(parts, ENDED, 2 + turn, GROWING_S)
            parts.say(f"  old: {(turn + 1) * ONE:,} events")
    await parts.rest()


async def _window(parts: Parts, pids: Mapping[str, int], age: str | None, number: int) -> Counted:
    """What a window of WINDOW_S costs, with a turn of the session `age` in it."""
    before, ended = await _counted(parts, pids), await metric(parts, ENDED)
    ends = asyncio.get_running_loop().time() + WINDOW_S
    if age is not None:
        async with producing(parts.addresses.kafka) as producer:
            text = "[[script: reply]] and now?"
            await publish(producer, INPUTS.name, [wish(age, f"turn-{number}", text)])
        await until(parts, ENDED, ended + 1, 60)
    await asyncio.sleep(max(0.0, ends - asyncio.get_running_loop().time()))
    if await metric(parts, "turnstile_sessions_driven"):
        raise ChildError(f"the session was not let go of within {WINDOW_S:g} s")
    after = await _counted(parts, pids)
    return {name: round(after[name] - before[name], 3) for name in after}


async def _counted(parts: Parts, pids: Mapping[str, int]) -> Counted:
    counted: Counted = {
        "provider requests": await metric(parts, "turnstile_provider_requests_total"),
        "events published": await metric(parts, "turnstile_events_published_total"),
        "head writes": await metric(parts, "turnstile_head_write_seconds_count"),
    }
    for name, pid in pids.items():
        read, written = transferred(pid)
        counted |= {f"{name} bytes read": read, f"{name} bytes written": written}
        counted[f"{name} cpu s"] = cpu_seconds(pid)
    return counted


def _compared(found: Mapping[str, list[Counted]], idle: Counted) -> dict[str, Any]:
    """(old, young, ratio) of each count, without what an idle window costs."""

    def of(age: str, name: str) -> float:
        return round(max(0.0, median(one[name] for one in found[age]) - idle[name]), 3)

    pairs = {name: (of("old", name), of("young", name)) for name in idle}
    return {
        name: [old, young, round(old / young, 2) if young else None]
        for name, (old, young) in pairs.items()
    }


async def _sizes(parts: Parts) -> dict[str, Any]:
    url = parts.addresses.database_url.replace("postgresql+asyncpg://", "postgresql://")
    connection = await asyncpg.connect(url, timeout=10)
    try:
        found = [await connection.fetchrow(SIZES, age) for age in ("old", "young")]
    finally:
        await connection.close()
    return {
        "head row bytes": [row[0] for row in found if row],
        "gateway row bytes": [row[1] for row in found if row],
    }
