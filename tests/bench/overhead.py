"""Leg `overhead`: from submitting a turn until the provider has it, against one round trip on the log.

The session is open and idle, as in the second turn of a conversation; one turn at a time. Beside it stands the
barest pipeline that does the same durable steps and no other (`pipeline.py`: the log with acks=all, one row
committed, the SDK's send): the limit of a product that passes a turn on so.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import replace
from datetime import datetime
from typing import Any

from infra.kafka.topics import create_topics
from shared.bus.topics import Topic
from tests.bench import interrupts
from tests.bench.child import ChildError
from tests.bench.figures import spread_ms
from tests.bench.kafka_log import producing, reading
from tests.bench.options import Options
from tests.bench.parts import Parts, running
from tests.bench.pipeline import EVENTS, pipeline
from tests.bench.pipeline_worker import END
from tests.bench.results import Result
from tests.bench.wire import Wire

ROUNDS = 3
TARGET = 3.0
TOPIC = Topic("bench.roundtrip", "round trips", "bench", "bench", 3_600_000, partitions=1)
SESSION = "bench-overhead"
TEXT = "[[script: reply]] And what about the second one? Number {}."
FEWEST, MOST = 20, 2_000
TURN_S = 30.0
PAUSE_S = 0.05  # the session is idle and its last events are archived when the next turn comes


async def measure(options: Options) -> Result:
    """Turns and round trips in turns, so that both meet the same machine."""
    ground = ("kafka", "postgres", "clickhouse", "simulator")
    async with AsyncExitStack() as stack:
        parts = await stack.enter_async_context(running(ground, options.say, options.profiler))
        await create_topics(parts.addresses.kafka, [TOPIC])
        await stack.enter_async_context(parts.service("gateway"))
        worker = await stack.enter_async_context(parts.service("agent-worker-1"))
        await stack.enter_async_context(parts.service("recorder"))
        kafka = parts.addresses.kafka
        producer = await stack.enter_async_context(producing(kafka))
        consumer = await stack.enter_async_context(reading(kafka, TOPIC.name))
        bare = await stack.enter_async_context(_pipeline(parts))
        client = _client(parts)
        await client.call("POST", "/v1/sessions", {"user_id": "bench", "session_id": SESSION})
        for number in range(3):  # opens the provider session, warms every path
            await _turn(client, -number)
            await _round_trip(producer, consumer)
            await bare(-number)
        await parts.rest()
        began = time.time()
        async with parts.profiler.watching("overhead", worker):
            submitted, passed, trips = await _both(client, producer, consumer, bare, options)
        received = await _received(parts, began)
        if len(received) != len(submitted) + len(passed):
            raise ChildError(f"the provider received {len(received)} of {2 * len(submitted)}")
        # One after the other: ours, the pipeline's, ours, and so on.
        result = _result(_delays(submitted, received[::2]), trips)
        bare_ms, ours_ms = spread_ms(_delays(passed, received[1::2])), result.ours
        assert parts.addresses.anthropic_base_url is not None
        told = await interrupts.measure(client, parts.addresses.anthropic_base_url)
        await client.close()
    steps = (
        f"the same durable steps by the barest programs: p50 {bare_ms[0]:.2f} ms, p99 {bare_ms[1]:.2f} ms, "
        f"{bare_ms[0] / result.bare:.2f} round trips; ours takes {ours_ms / bare_ms[0]:.2f} of that"
    )
    return replace(result, notes=[*result.notes, steps, told])


Pass = Callable[[int], Awaitable[float]]


@asynccontextmanager
async def _pipeline(parts: Parts) -> AsyncIterator[Pass]:
    """Passes a turn through the pipeline and waits for its end; returns when it was submitted."""
    database = parts.addresses.database_url.replace("+asyncpg", "")
    async with (
        pipeline(parts, 1, database) as (url, _),
        reading(parts.addresses.kafka, EVENTS) as told,
    ):
        client = Wire(url, parts.headers)

        async def passes(number: int) -> float:
            body = {"content": TEXT.format(number)}
            _, sent = await client.call("POST", f"/v1/sessions/{SESSION}/turns", body)
            async with asyncio.timeout(TURN_S):
                async for record in told:
                    if END.encode() in record.value:
                        return sent
            raise AssertionError("a consumer never ends")

        yield passes
        await client.close()


async def _both(
    client: Wire, producer: Any, consumer: Any, bare: Pass, options: Options
) -> tuple[list[float], list[float], list[float]]:
    """When ours and the pipeline's were submitted, and the seconds of round trips."""
    submitted: list[float] = []
    passed: list[float] = []
    trips: list[float] = []
    until = time.monotonic() + options.seconds * (options.rounds or ROUNDS)
    while len(submitted) < FEWEST or (time.monotonic() < until and len(submitted) < MOST):
        submitted.append(await _turn(client, len(submitted) + 1))
        await asyncio.sleep(PAUSE_S)
        trips.append(await _round_trip(producer, consumer))
        passed.append(await bare(len(submitted)))
        await asyncio.sleep(PAUSE_S)
    return submitted, passed, trips


async def _turn(client: Wire, number: int) -> float:
    """Submit a turn and wait for its end; returns when it was submitted (seconds since 1970)."""
    path = f"/v1/sessions/{SESSION}/turns"
    accepted, sent = await client.call("POST", path, {"content": TEXT.format(number)})
    deadline = time.monotonic() + TURN_S
    while time.monotonic() < deadline:
        await asyncio.sleep(0.02)
        turn, _ = await client.call("GET", f"{path}/{accepted['turn_id']}")
        if turn["status"] == "completed":
            return sent
    raise ChildError(f"turn {number} was not completed within {TURN_S:.0f} s: {turn}")


async def _round_trip(producer: Any, consumer: Any) -> float:
    """Seconds from sending a record until the consumer has it, the acknowledgement included."""
    began = time.perf_counter()
    sending = asyncio.ensure_future(producer.send_and_wait(TOPIC.name, b"x" * 400))
    await asyncio.wait_for(consumer.getone(), 10.0)
    await sending
    return time.perf_counter() - began


async def _received(parts: Parts, since: float) -> list[float]:
    """When the provider received each message (seconds since 1970), in order."""
    assert parts.addresses.anthropic_base_url is not None
    wire = Wire(parts.addresses.anthropic_base_url, {})
    found, _ = await wire.call("GET", "/_sim/requests")
    await wire.close()
    times = [
        datetime.fromisoformat(request["at"]).timestamp()
        for request in found["data"]
        if request["method"] == "POST" and request["path"].endswith("/events")
    ]
    return [at for at in times if at >= since]


def _client(parts: Parts) -> Wire:
    headers = {"authorization": f"Bearer {parts.keys.first}", "content-type": "application/json"}
    return Wire(parts.addresses.gateway, headers)


def _delays(submitted: list[float], received: list[float]) -> list[float]:
    return [there - here for here, there in zip(submitted, received, strict=True)]


def _result(delays: list[float], trips: list[float]) -> Result:
    ours, bare = spread_ms(delays), spread_ms(trips)
    return Result(
        leg="overhead",
        unit="ms p50",
        ours=ours[0],
        bare=bare[0],
        target=TARGET,
        at_most=True,
        ours_ms=ours,
        bare_ms=bare,
        notes=[f"{len(delays)} turns of one session, {len(trips)} round trips in between"],
    )
