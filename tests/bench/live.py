"""Leg `live`: what is published reaches CLIENTS clients of one gateway, against the barest program that tells it.

Each round has two parts: events published all at once, for the rate; and events published one after the other, for
the time until an event has reached all who listen to its session. All clients stay connected all the time; those of
the other side hear nothing then, since it has a topic of its own.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterable, Iterator
from contextlib import AsyncExitStack
from dataclasses import dataclass, field
from statistics import median
from typing import Any

import msgspec

from infra.kafka.topics import create_topics
from infra.local.ports import free_ports
from shared.bus.topics import EVENTS, Topic
from shared.clock import utcnow
from shared.moment import rfc3339
from shared.session.events import Event
from tests.bench import child
from tests.bench.child import Talk
from tests.bench.cpu import cpu_seconds
from tests.bench.figures import rounds_of
from tests.bench.kafka_log import Record, producing
from tests.bench.options import Options
from tests.bench.parts import Parts, running
from tests.bench.process import resident
from tests.bench.results import Result
from tests.bench.wire import open_sessions

SESSIONS, LISTENERS = 500, 10
CLIENTS = SESSIONS * LISTENERS
ROUNDS = 3
TARGET = 0.7
TOPIC = Topic("bench.live", "what the bare program tells", "bench", "bare_live", 3_600_000)
# Events of each session that are published at once; then so many a second, one after the other.
AT_ONCE = 10
A_SECOND = 100
TYPE = "agent.message"
TEXT = "The agent looks again, finds what it needs and writes an answer with names and dates. " * 4
_encode = msgspec.json.Encoder().encode


@dataclass(slots=True)
class Side:
    """One side: its server, its clients, the topic it hears, and what was measured."""

    name: str
    topic: str
    pid: int
    listeners: Talk
    tenant: str
    kib_a_client: float
    seq: int = 0
    rates: list[float] = field(default_factory=list)
    cpu_us: list[float] = field(default_factory=list)
    p50_ms: list[float] = field(default_factory=list)
    p99_ms: list[float] = field(default_factory=list)

    def records(self, sessions: int) -> Iterator[Record]:
        """The next event of each of so many sessions; published now."""
        self.seq += 1
        for number in range(sessions):
            session, event_id = f"live-{number}", f"sevt_{self.seq}_{number}"
            data = {
                "id": event_id,
                "type": TYPE,
                "content": [{"type": "text", "text": TEXT}],
                "sent": time.monotonic_ns(),
            }
            event = Event(
                tenant_id=self.tenant,
                session_id=session,
                seq=self.seq,
                event_id=event_id,
                type=TYPE,
                turn_id=None,
                at=rfc3339(utcnow()),
                user_id="bench",
                data=msgspec.Raw(_encode(data)),
            )
            yield session.encode(), _encode(event), []


async def measure(options: Options) -> Result:
    """Rounds of ours and bare in turns, over the same number of clients."""
    ground = ("kafka", "postgres", "clickhouse")
    async with AsyncExitStack() as stack:
        parts = await stack.enter_async_context(running(ground, options.say, options.profiler))
        await create_topics(parts.addresses.kafka, [TOPIC])
        producer = await stack.enter_async_context(producing(parts.addresses.kafka))
        gateway = await stack.enter_async_context(parts.service("gateway"))
        ids = (f"live-{number}" for number in range(SESSIONS))
        await open_sessions(parts.addresses.gateway, parts.headers, ids)
        port = free_ports(1)[0]
        told = {"port": port, "bootstrap": parts.addresses.kafka, "topic": TOPIC.name}
        bare = await stack.enter_async_context(child.serving("tests.bench.bare_live", told))
        sides = [
            await _side(stack, parts, "ours", EVENTS.name, gateway, parts.addresses.gateway),
            await _side(stack, parts, "bare", TOPIC.name, bare, f"http://127.0.0.1:{port}"),
        ]
        for _ in range(options.rounds or ROUNDS):
            for side in sides:
                await _round(parts, side, producer, options)
    return _result(*sides)


async def _side(
    stack: AsyncExitStack, parts: Parts, name: str, topic: str, pid: int, url: str
) -> Side:
    await parts.rest()
    before, began = resident(pid), time.monotonic()
    paths = [f"/v1/sessions/live-{number}/events" for number in range(SESSIONS)] * LISTENERS
    told = {"url": url, "paths": paths, "headers": {**parts.headers, "accept": "text/event-stream"}}
    listeners = await stack.enter_async_context(child.talking("tests.bench.listeners", told))
    await listeners.heard()
    opened = time.monotonic() - began
    await parts.rest()
    kib = (resident(pid) - before) / CLIENTS / 1024
    parts.say(f"  {name}: {CLIENTS:,} clients open after {opened:.1f} s, {kib:.1f} KiB each")
    return Side(name, topic, pid, listeners, parts.keys.tenants.split(",")[0], kib)


async def _round(parts: Parts, side: Side, producer: Any, options: Options) -> None:
    await parts.rest()
    before = cpu_seconds(side.pid)
    records = [record for _ in range(AT_ONCE) for record in side.records(SESSIONS)]
    async with parts.profiler.watching(f"live-{side.name}", side.pid):
        facts = await _publish(side, producer, records, len(records))
    side.rates.append(len(records) * LISTENERS / facts["seconds"])
    side.cpu_us.append((cpu_seconds(side.pid) - before) / len(records) / LISTENERS * 1e6)
    await parts.rest()
    cycles = max(1, int(options.seconds * A_SECOND / SESSIONS))
    later = (record for _ in range(cycles) for record in side.records(SESSIONS))
    facts = await _publish(side, producer, later, cycles * SESSIONS, pause=1 / A_SECOND)
    side.p50_ms.append(facts["p50_ms"])
    side.p99_ms.append(facts["p99_ms"])
    parts.say(f"  {side.name}: {side.rates[-1]:,.0f} events/s, p99 {facts['p99_ms']:.1f} ms")


async def _publish(
    side: Side, producer: Any, records: Iterable[Record], count: int, *, pause: float = 0.0
) -> dict[str, Any]:
    """What the listeners say once all of them have heard of all records."""
    await side.listeners.ask({"expect": count * LISTENERS})
    waiting = []
    for key, value, headers in records:
        waiting.append(await producer.send(side.topic, value, key=key, headers=headers))
        if pause:
            await asyncio.sleep(pause)
    await asyncio.gather(*waiting)
    return await side.listeners.heard()


def _result(ours: Side, bare: Side) -> Result:
    memory = (
        f"resident memory a client: ours {ours.kib_a_client:.1f} KiB, bare {bare.kib_a_client:.1f} KiB;"
        f" {CLIENTS:,} clients, {LISTENERS} of each session"
    )
    cost = (
        f"CPU of the server for an event told to one client: ours {median(ours.cpu_us):.0f} µs, bare "
        f"{median(bare.cpu_us):.0f} µs, the reading of the log included"
    )
    waits = f"p50 and p99 of the time until the last reader has it, at {A_SECOND} events/s, {CLIENTS:,} open"
    return Result(
        leg="live",
        unit="events/s",
        ours=median(ours.rates),
        bare=median(bare.rates),
        target=TARGET,
        ours_ms=(median(ours.p50_ms), median(ours.p99_ms)),
        bare_ms=(median(bare.p50_ms), median(bare.p99_ms)),
        notes=[rounds_of(ours.rates, bare.rates, "events/s"), memory, cost, waits],
    )
