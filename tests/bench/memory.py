"""Leg `memory`: what a worker holds with thousands of sessions in flight and every queue full.

Every session has a turn that its agent holds and others in line. Then the log is stopped (SIGSTOP), so that nothing
can be said, and all agents are let go at once: what they say piles up as far as it may. The figures are the highest
resident memory, and how many bytes of events waited.
"""

from __future__ import annotations

import asyncio
import os
import signal
from contextlib import AsyncExitStack
from typing import Any

import httpx2

from shared.bus.topics import INPUTS
from tests.bench.asking import WORKER, metric, until, wish
from tests.bench.kafka_log import producing, publish
from tests.bench.options import Options
from tests.bench.parts import Parts, running
from tests.bench.process import MIB, highest_resident, resident

# Four tool results of 50 kB a session once it is let go: more, over all, than may wait.
BUSY = "[[script: tools rounds=4 calls=1 bytes=50000 hold=5 patience=3600 pace=0.05]]"
IN_FLIGHT_S, FULL_S, LOOK_S = 420.0, 90.0, 5.0
RELEASES_AT_ONCE = 50
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
        await at_work(options, parts, NEARLY * sessions)
        driven, in_flight = resident(worker), await metric(parts, "turnstile_sessions_driven")
        options.say(f"  {in_flight:.0f} sessions driven: {driven // MIB} MiB; the log stops")
        kafka = parts.pid("kafka")
        os.kill(kafka, signal.SIGSTOP)
        try:
            released = await _let_go(parts)
            series = await _watched(options, parts, worker)
            still_driven = await metric(parts, "turnstile_sessions_driven")
        finally:
            os.kill(kafka, signal.SIGCONT)
        return {
            "sessions": sessions,
            "turns in line of each": queued,
            "idle MiB": idle // MIB,
            "sessions driven": in_flight,
            "driven MiB": driven // MIB,
            "agents let go": released,
            f"log away, every {LOOK_S:.0f} s: resident MiB, of it events that wait": series,
            "highest MiB": highest_resident(worker) // MIB,
            "sessions driven at the end": still_driven,
            "load": os.getloadavg()[0],
        }


async def at_work(options: Options, parts: Parts, wanted: float) -> None:
    """Wait until so many agents have their turn. Raises TimeoutError."""
    async with asyncio.timeout(IN_FLIGHT_S), _simulator(parts) as http:
        while True:
            listed = (await http.get("/_sim/sessions")).raise_for_status().json()["data"]
            running = sum(one["status"] == "running" for one in listed)
            if running >= wanted:
                return
            options.say(f"  {running} agents at work")
            await asyncio.sleep(LOOK_S)


def _simulator(parts: Parts) -> httpx2.AsyncClient:
    assert parts.addresses.anthropic_base_url is not None
    return httpx2.AsyncClient(base_url=parts.addresses.anthropic_base_url, timeout=30.0)


async def _let_go(parts: Parts) -> int:
    """Let every agent that holds its turn go on; how many there are."""
    gate = asyncio.Semaphore(RELEASES_AT_ONCE)
    async with _simulator(parts) as http:

        async def release(ident: str) -> None:
            async with gate:
                answer = await http.post(f"/_sim/sessions/{ident}/release")
                answer.raise_for_status()

        listed = (await http.get("/_sim/sessions")).raise_for_status().json()["data"]
        await asyncio.gather(*(release(one["id"]) for one in listed))
    return len(listed)


async def _watched(options: Options, parts: Parts, worker: int) -> list[tuple[int, int]]:
    series = []
    for _ in range(int(FULL_S / LOOK_S)):
        await asyncio.sleep(LOOK_S)
        waiting = int(await metric(parts, "turnstile_events_waiting_bytes")) // MIB
        series.append((resident(worker) // MIB, waiting))
        options.say(f"  the log is away: {series[-1][0]} MiB, {waiting} MiB of events wait")
    return series
