"""Leg `crowded`: what a turn of a new session costs where very many sessions are known already.

The tables of the gateway and of the workers are filled by SQL with copies of a session that rests. The rounds
before and after lie minutes apart on a machine that may be busy, so processor time is told beside the turn's.
"""

from __future__ import annotations

import os
import time
from contextlib import AsyncExitStack
from typing import Any

import asyncpg

from tests.bench import child
from tests.bench.cpu import cpu_seconds
from tests.bench.options import Options
from tests.bench.parts import Parts, running
from tests.bench.sessions import TEXT

SERVICES = ("agent-worker-1", "gateway")
SESSIONS, TURNS, ROUNDS = 10, 20, 3
IN_TIME_S = 240.0
AT_ONCE = 50_000
COPIED = ("gateway_sessions", "gateway_turns", "worker_heads")
GOAL = 1.1


async def measure(options: Options, known: int) -> dict[str, Any]:
    """Medians of rounds before and after `known` sessions were put there. Raises StackError, ChildError."""
    ground = ("kafka", "postgres", "clickhouse", "simulator")
    async with AsyncExitStack() as stack:
        parts = await stack.enter_async_context(running(ground, options.say, options.profiler))
        pids = {name: await stack.enter_async_context(parts.service(name)) for name in SERVICES}
        await _round(parts, pids)  # warms every path
        before = [await _round(parts, pids) for _ in range(ROUNDS)]
        await _fill(parts, known)
        await parts.rest()
        after = [await _round(parts, pids) for _ in range(ROUNDS)]
    options.say(f"  before {before}; after {after}")
    found = {
        name: [_middle([one[name] for one in side]) for side in (before, after)]
        for name in before[0]
    }
    ratios = {name: [*pair, round(pair[1] / pair[0], 2)] for name, pair in found.items() if pair[0]}
    return {"sessions known": known, **ratios, "goal": GOAL, "load": os.getloadavg()[0]}


async def _round(parts: Parts, pids: dict[str, int]) -> dict[str, float]:
    """Milliseconds of a turn (p50), and of processor a turn."""
    await parts.rest()
    cpu = {name: cpu_seconds(pid) for name, pid in pids.items()}
    told = {
        "url": parts.addresses.gateway,
        "headers": {
            "authorization": f"Bearer {parts.keys.first}",
            "content-type": "application/json",
        },
        "run": time.time_ns(),
        "sessions": SESSIONS,
        "turns": TURNS,
        "text": TEXT,
    }
    facts = await child.run("tests.bench.talking", told, IN_TIME_S)
    used = {
        f"{name} cpu ms": 1000 * (cpu_seconds(pid) - cpu[name]) / facts["turns"]
        for name, pid in pids.items()
    }
    return {"turn p50 ms": facts["p50_ms"], **used}


async def _fill(parts: Parts, known: int) -> None:
    """Copy one session that rests, under other ids."""
    url = parts.addresses.database_url.replace("postgresql+asyncpg://", "postgresql://")
    connection = await asyncpg.connect(url, timeout=10, command_timeout=600)
    try:
        resting = "SELECT session_id FROM worker_heads WHERE lease_owner IS NULL LIMIT 1"
        model = await connection.fetchval(resting)
        for begin in range(0, known, AT_ONCE):
            for table in COPIED:
                await connection.execute(await _copying(connection, table), model, begin, AT_ONCE)
            parts.say(f"  {begin + AT_ONCE:,} sessions in the tables")
        for table in COPIED:
            await connection.execute(f"ANALYZE {table}")
    finally:
        await connection.close()


async def _copying(connection: Any, table: str) -> str:
    """The statement that copies the rows of session $1 under $3 ids from number $2 on; none of them is due."""
    asked = "SELECT column_name FROM information_schema.columns WHERE table_name = $1"
    columns = [row[0] for row in await connection.fetch(asked, table)]
    other = {"session_id": "'known-' || n", "wake_at": "NULL"}
    values = ", ".join(other.get(column, column) for column in columns)
    numbers = "generate_series($2::bigint, $2::bigint + $3::bigint - 1) AS n"
    return (
        f"INSERT INTO {table} ({', '.join(columns)}) "
        f"SELECT {values} FROM {table}, {numbers} WHERE session_id = $1"
    )


def _middle(values: list[float]) -> float:
    return round(sorted(values)[len(values) // 2], 3)
