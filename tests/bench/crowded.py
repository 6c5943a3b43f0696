"""Leg `crowded`: what a turn of a new session costs where very many sessions are known already.

The tables of gateway, workers and archive are filled with copies of a session of one turn that was written by the
product (`crowd`). Beside the turn's time it is counted what it costs: on a busy machine only that says something.
"""

from __future__ import annotations

import asyncio
import os
import time
from contextlib import AsyncExitStack
from typing import Any

import asyncpg
import clickhouse_connect

from tests.bench import child, crowd
from tests.bench.cpu import cpu_seconds
from tests.bench.options import Options
from tests.bench.parts import Parts, running
from tests.bench.sessions import TEXT

SERVICES = ("agent-worker-1", "gateway", "recorder")
SESSIONS, TURNS, ROUNDS = 10, 20, 3
IN_TIME_S = 240.0
GOAL = 1.1
# Counted by PostgreSQL for the whole database, by ClickHouse since it started.
PAGES = """
SELECT xact_commit AS transactions, blks_hit + blks_read AS pages, tup_returned + tup_fetched AS rows_read,
    tup_inserted + tup_updated + tup_deleted AS rows_written
FROM pg_stat_database WHERE datname = current_database()
"""
READ = """
SELECT sumIf(value, event = 'SelectQuery'), sumIf(value, event = 'SelectedRows') FROM system.events
"""
MERGING = "SELECT count() FROM system.merges"


async def measure(options: Options, known: int) -> dict[str, Any]:
    """Medians of rounds before and after `known` sessions were put there. Raises StackError, ChildError."""
    ground = ("kafka", "postgres", "clickhouse", "simulator")
    async with AsyncExitStack() as stack:
        parts = await stack.enter_async_context(running(ground, options.say, options.profiler))
        pids = {name: await stack.enter_async_context(parts.service(name)) for name in SERVICES}
        await _round(parts, pids)  # warms every path
        before = [await _round(parts, pids) for _ in range(ROUNDS)]
        model = crowd.session_id(0)
        await _talk(parts, run=model.split("-")[1], sessions=1, turns=1)
        await parts.rest()
        began = time.monotonic()
        await crowd.fill(parts, model, known)
        filled = time.monotonic() - began
        await _merged(parts)
        after = [await _round(parts, pids) for _ in range(ROUNDS)]
    options.say(f"  before {before}; after {after}")
    found = {
        name: [_middle([one[name] for one in side]) for side in (before, after)]
        for name in before[0]
    }
    ratios = {name: [*pair, round(pair[1] / pair[0], 2)] for name, pair in found.items() if pair[0]}
    told = {"filled in s": round(filled), "goal": GOAL, "load": os.getloadavg()[0]}
    return {"sessions known": known, **ratios, **told}


async def _round(parts: Parts, pids: dict[str, int]) -> dict[str, float]:
    """Milliseconds of a turn (p50), and what is counted of a turn."""
    await parts.rest()
    before = await _counted(parts, pids)
    facts = await _talk(parts, run=str(time.time_ns()), sessions=SESSIONS, turns=TURNS)
    await parts.rest()
    after = await _counted(parts, pids)
    used = {name: (after[name] - before[name]) / facts["turns"] for name in after}
    return {"turn p50 ms": facts["p50_ms"], **used}


async def _talk(parts: Parts, *, run: str, sessions: int, turns: int) -> Any:
    told = {
        "url": parts.addresses.gateway,
        "headers": parts.headers,
        "run": run,
        "sessions": sessions,
        "turns": turns,
        "text": TEXT,
    }
    return await child.run("tests.bench.talking", told, IN_TIME_S)


async def _counted(parts: Parts, pids: dict[str, int]) -> dict[str, float]:
    """All there was so far: processor ms of our services, and what database and archive count."""
    connection = await asyncpg.connect(crowd.plain(parts), timeout=10)
    try:
        # What a session counted is told when it is idle for a second.
        await connection.execute("SELECT pg_stat_force_next_flush()")
        pages = await connection.fetchrow(PAGES)
    finally:
        await connection.close()
    queries, rows = (await _asked(parts, READ))[0]
    return {
        **{f"{name} cpu ms": 1000 * cpu_seconds(pid) for name, pid in pids.items()},
        **{f"postgres {name}": float(value) for name, value in dict(pages or {}).items()},
        "clickhouse queries": float(queries),
        "clickhouse rows read": float(rows),
    }


async def _merged(parts: Parts) -> None:
    """Wait until ClickHouse merges nothing, so that no merge is counted."""
    async with asyncio.timeout(IN_TIME_S):
        while (await _asked(parts, MERGING))[0][0]:  # noqa: ASYNC110 - it is told by nothing
            await asyncio.sleep(1)


async def _asked(parts: Parts, query: str) -> Any:
    def ask() -> Any:
        make: Any = clickhouse_connect.get_client
        client = make(dsn=parts.addresses.clickhouse_url, autogenerate_session_id=False)
        try:
            return client.query(query).result_rows
        finally:
            client.close()

    return await asyncio.to_thread(ask)


def _middle(values: list[float]) -> float:
    return round(sorted(values)[len(values) // 2], 3)
