"""Leg `memory`: how much does a worker hold with thousands of sessions in flight and every queue full?

Every session has a turn that its agent works on and others in line. Then the log is stopped (SIGSTOP): nothing can
be said, so what the agents go on saying piles up as far as it may. The figure is the highest resident memory.
"""

from __future__ import annotations

import asyncio
import os
import signal
from contextlib import AsyncExitStack
from typing import Any

from infra.bench.asking import WORKER, metric, until, wish
from infra.bench.kafka_log import producing, publish
from infra.bench.options import Options
from infra.bench.parts import running
from infra.bench.process import MIB, highest_resident, resident
from shared.bus.topics import INPUTS

# Six tool results of 100 kB a session: more, over all, than may wait.
BUSY = "[[script: tools rounds=6 calls=1 bytes=100000 hold=1 pace=0.05]]"
IN_FLIGHT_S, FULL_S = 420.0, 60.0
# On a machine with other work some leases run out again and again.
NEARLY = 0.9


async def measure(options: Options, sessions: int, queued: int) -> dict[str, Any]:
    """Figures in MiB. Raises StackError or ChildError when the sessions do not get under way."""
    ground = ("kafka", "postgres", "clickhouse", "simulator")
    async with AsyncExitStack() as stack:
        parts = await stack.enter_async_context(running(ground, options.say, options.profiler))
        worker = await stack.enter_async_context(parts.service(WORKER))
        idle = resident(worker)
        async with producing(parts.addresses.kafka) as producer:
            waiting = (
                wish(f"full-{place}", f"turn-{turn}", f"{BUSY} {'more to read. ' * 70}")
                for turn in range(1 + queued)
                for place in range(sessions)
            )
            await publish(producer, INPUTS.name, waiting)
        await until(parts, "turnstile_sessions_driven", NEARLY * sessions, IN_FLIGHT_S)
        driven, in_flight = resident(worker), await metric(parts, "turnstile_sessions_driven")
        options.say(f"  {in_flight:.0f} sessions driven: {driven // MIB} MiB; the log stops")
        kafka = parts.pid("kafka")
        os.kill(kafka, signal.SIGSTOP)
        try:
            series = await _watched(options, worker)
            still_driven = await metric(parts, "turnstile_sessions_driven")
        finally:
            os.kill(kafka, signal.SIGCONT)
        return {
            "sessions": sessions,
            "turns in line of each": queued,
            "idle MiB": idle // MIB,
            "sessions driven": in_flight,
            "driven MiB": driven // MIB,
            "log away MiB, every 5 s": series,
            "highest MiB": highest_resident(worker) // MIB,
            "sessions driven at the end": still_driven,
            "load": os.getloadavg()[0],
        }


async def _watched(options: Options, worker: int) -> list[int]:
    series = []
    for _ in range(int(FULL_S / 5)):
        await asyncio.sleep(5)
        series.append(resident(worker) // MIB)
        options.say(f"  the log is away: {series[-1]} MiB")
    return series
