"""Leg `replay`: a session of 100,000 events replayed by the gateway, against reading its rows from ClickHouse.

Both answers are read by the same program. Events are counted in a first answer of each side; the others must be as
long as that one. While the gateway replays, its resident memory is looked at: it must not grow with the session.
"""

from __future__ import annotations

import asyncio
import contextlib
import random
import time
from collections.abc import AsyncIterator
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from statistics import median
from typing import Any
from urllib.parse import urlencode, urlsplit

import clickhouse_connect

from shared.archive_insert import SETTINGS, TABLE
from shared.bus.topics import EVENTS
from tests.bench import child
from tests.bench.cpu import cpu_seconds
from tests.bench.figures import rounds_of
from tests.bench.kafka_log import Record, producing, publish
from tests.bench.options import Options
from tests.bench.parts import Parts, running
from tests.bench.results import Result
from tests.bench.samples import EVENTS as EVENTS_A_TURN
from tests.bench.samples import records
from tests.bench.wire import Wire

COUNT = 100_000
ROUNDS = 3
TARGET = 0.7
BATCH = 10_000
IN_TIME_S = 300.0
LOOK_S = 0.05
# The same columns, the same order; no view, nothing made unique.
BARE = """
SELECT seq, event_id, type, turn_id, toString(at), user_id, thread_id, model, trace_id, data
FROM session_events
WHERE tenant_id = {tenant:String} AND session_id = {session:String}
ORDER BY seq FORMAT JSONCompactEachRow
"""


@dataclass(slots=True)
class Side:
    """One round of one side: events a second, bytes, seconds to the first one, processor seconds of gateway and
    archive, and the least and most memory of the gateway in MB."""

    rate: float
    size: int
    first: float
    cpu: tuple[float, float]
    memory: tuple[float, float] = (0.0, 0.0)


async def measure(options: Options) -> Result:
    """Rounds of ours and bare in turns over the same session."""
    ground = ("kafka", "postgres", "clickhouse")
    async with running(ground, options.say, options.profiler) as parts:
        tenant = parts.keys.tenants.split(",")[0]
        rows = list(records(COUNT, tenant, _began(), random.Random(1), COUNT // EVENTS_A_TURN))
        session = rows[0][0].decode()
        await asyncio.to_thread(_fill, parts.addresses.clickhouse_url, [v for _, v, _ in rows])
        async with parts.service("gateway") as gateway:
            await _announce(parts, session, rows[-1])
            ours, bare = list[Side](), list[Side]()
            first = await _ours(parts, gateway, session), await _bare(parts, tenant, session)
            for _ in range(options.rounds or ROUNDS):
                await parts.rest()
                async with parts.profiler.watching("replay", gateway):
                    ours.append(await _ours(parts, gateway, session, first[0].size))
                await parts.rest()
                bare.append(await _bare(parts, tenant, session, first[1].size))
    return _result(first[0], ours, bare)


async def _ours(parts: Parts, gateway: int, session: str, size: int = 0) -> Side:
    """A round that must bring `size` bytes; without one the events in it are counted."""
    path = f"/v1/sessions/{session}/replay?speed=0"
    pids = gateway, parts.pid("clickhouse")
    used = [cpu_seconds(pid) for pid in pids]
    async with _watched(gateway) as memory:
        mark = "" if size else '\ndata: {"tenant_id"'
        facts = await _read(parts.addresses.gateway + path, "GET", parts.headers, "", mark)
    _check(facts, size)
    cpu = [cpu_seconds(pid) - before for pid, before in zip(pids, used, strict=True)]
    side = _side(parts, "ours", facts, (cpu[0], cpu[1]))
    side.memory = min(memory), max(memory)
    return side


async def _bare(parts: Parts, tenant: str, session: str, size: int = 0) -> Side:
    """See `_ours`."""
    engine, where = parts.pid("clickhouse"), urlsplit(parts.addresses.clickhouse_url)
    query = urlencode(
        {
            "database": where.path.strip("/"),
            "param_tenant": tenant,
            "param_session": session,
            "output_format_json_quote_64bit_integers": 0,
        }
    )
    url = f"http://{where.hostname}:{where.port}/?{query}"
    user = {"X-ClickHouse-User": where.username or "default"}
    user |= {"X-ClickHouse-Key": where.password} if where.password else {}
    used = cpu_seconds(engine)
    facts = await _read(url, "POST", user, BARE, "" if size else "\n")
    _check(facts, size)
    return _side(parts, "bare", facts, (0.0, cpu_seconds(engine) - used))


def _check(facts: dict[str, Any], size: int) -> None:
    """Raise ChildError unless all events came."""
    if size and facts["bytes"] != size:
        raise child.ChildError(f"{facts['bytes']} bytes came, not {size}")
    if not size and facts["marks"] != COUNT:
        raise child.ChildError(f"{facts['marks']} events came, not {COUNT}")


def _side(parts: Parts, name: str, facts: dict[str, Any], cpu: tuple[float, float]) -> Side:
    rate = COUNT / facts["seconds"]
    megabytes = facts["bytes"] / 1e6
    parts.say(f"  {name}: {rate:,.0f} events/s, {megabytes:.0f} MB in {facts['seconds']:.2f} s")
    return Side(rate, facts["bytes"], facts["first_seconds"], cpu)


async def _read(
    url: str, method: str, headers: dict[str, str], body: str, mark: str
) -> dict[str, Any]:
    told = {"url": url, "method": method, "headers": headers, "body": body, "mark": mark}
    return await child.run("tests.bench.read_answer", told, IN_TIME_S)


async def _announce(parts: Parts, session: str, last: Record) -> None:
    """Let the gateway hear of the session and of its last event, as if it had just happened."""
    wire = Wire(parts.addresses.gateway, parts.headers)
    await wire.call("POST", "/v1/sessions", {"user_id": "bench", "session_id": session})
    async with producing(parts.addresses.kafka) as producer:
        await publish(producer, EVENTS.name, [last])
    deadline = time.monotonic() + IN_TIME_S
    while (known := (await wire.call("GET", f"/v1/sessions/{session}"))[0]["last_seq"]) < COUNT:
        if time.monotonic() > deadline:
            raise child.ChildError(f"the gateway knows of {known} of {COUNT} events")
        await asyncio.sleep(0.1)
    await wire.close()


@contextlib.asynccontextmanager
async def _watched(pid: int) -> AsyncIterator[list[float]]:
    """Resident memory of a process in MB, looked at again and again inside."""
    seen = [_resident(pid)]

    async def look() -> None:
        while True:
            await asyncio.sleep(LOOK_S)
            seen.append(_resident(pid))

    task = asyncio.create_task(look())
    try:
        yield seen
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


def _resident(pid: int) -> float:
    for line in Path(f"/proc/{pid}/status").read_text().splitlines():
        if line.startswith("VmRSS:"):
            return int(line.split()[1]) / 1024
    raise child.ChildError(f"process {pid} has no resident memory: it is gone")


def _fill(url: str, values: list[bytes]) -> None:
    make: Any = clickhouse_connect.get_client
    client = make(dsn=url, autogenerate_session_id=False)
    for place in range(0, len(values), BATCH):
        body = b"\n".join(values[place : place + BATCH])
        client.raw_insert(TABLE, insert_block=body, fmt="JSONEachRow", settings=SETTINGS)
    client.close()


def _began() -> datetime:
    return datetime(2026, 11, 2, 8, tzinfo=UTC)


def _result(warming: Side, ours: list[Side], bare: list[Side]) -> Result:
    rates = [side.rate for side in ours], [side.rate for side in bare]
    each = "; ".join(f"{a:.1f} to {b:.1f}" for a, b in (side.memory for side in ours))
    first = median(side.first for side in ours), median(side.first for side in bare)
    memory = (
        f"resident memory of the gateway in MB while it replays {COUNT:,} events: the first time "
        f"{warming.memory[0]:.1f} to {warming.memory[1]:.1f}, then by round {each}"
    )
    cost = (
        f"CPU an event: gateway {_cpu(ours, 0)}, archive under it {_cpu(ours, 1)}; bare: archive "
        f"{_cpu(bare, 1)}; "
        f"first byte after {first[0] * 1000:.0f} ms and {first[1] * 1000:.0f} ms"
    )
    return Result(
        leg="replay",
        unit="events/s",
        ours=median(rates[0]),
        bare=median(rates[1]),
        target=TARGET,
        notes=[rounds_of(*rates, "events/s"), memory, cost],
    )


def _cpu(sides: list[Side], whose: int) -> str:
    return f"{median(side.cpu[whose] for side in sides) / COUNT * 1e6:.1f} µs"
