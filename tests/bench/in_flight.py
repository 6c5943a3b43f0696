"""Leg `in_flight`: what a session in flight costs a worker in memory, beyond the idle process.

Every session has a turn that its agent holds: a stream is open, a message was sent, and nothing ends meanwhile.
"""

from __future__ import annotations

import asyncio
import os
from contextlib import AsyncExitStack
from typing import Any

from shared.bus.topics import INPUTS
from tests.bench.asking import WORKER, metric, until, wish
from tests.bench.kafka_log import producing, publish
from tests.bench.memory import at_work
from tests.bench.options import Options
from tests.bench.parts import running
from tests.bench.process import MIB, highest_resident, resident

HELD = "[[script: tools rounds=4 calls=1 hold=5 patience=3600]] wait for me"
UNDER_WAY_S = 600.0
# As long as no lease runs out meanwhile the figure holds; what buffers grew by is given back by then.
STANDING_S = 30.0
GOAL_KIB = 100


async def measure(options: Options, sessions: int) -> dict[str, Any]:
    """Figures of one worker. Raises StackError or ChildError when the sessions do not get under way."""
    ground = ("kafka", "postgres", "clickhouse", "simulator")
    async with AsyncExitStack() as stack:
        parts = await stack.enter_async_context(
            running(ground, options.say, options.profiler, TURNSTILE_CONCURRENCY=str(sessions))
        )
        worker = await stack.enter_async_context(parts.service(WORKER))
        await parts.rest()
        idle = resident(worker)
        async with producing(parts.addresses.kafka) as producer:
            held = (wish(f"held-{place}", "turn-1", HELD) for place in range(sessions))
            await publish(producer, INPUTS.name, held)
        await until(parts, "turnstile_sessions_driven", sessions, UNDER_WAY_S)
        await at_work(options, parts, sessions)
        await asyncio.sleep(STANDING_S)
        standing = resident(worker)
        return {
            "sessions": sessions,
            "still driven": await metric(parts, "turnstile_sessions_driven"),
            "leases lost": await metric(parts, "turnstile_leases_lost_total"),
            "idle MiB": idle // MIB,
            "in flight MiB": standing // MIB,
            "highest MiB": highest_resident(worker) // MIB,
            "KiB a session": round((standing - idle) / 1024 / sessions, 1),
            "goal KiB": GOAL_KIB,
            "load": os.getloadavg()[0],
        }
