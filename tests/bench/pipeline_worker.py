"""The worker of the barest pipeline: reads turns from a topic, sends each to its session's agent, and publishes
what the agent says as it came.

A program: order `{base_url, bootstrap, inputs, events, sessions}`; writes a line when it reads, ends on SIGTERM. It
keeps nothing: no row, no offset, no order but that of one session's turns, and what it is in when it dies is gone.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

import msgspec
import uvloop
from anthropic import AsyncAnthropic

from tests.bench.bare_accept import Body
from tests.bench.bare_sessions import IDLE, lines, prepared, send
from tests.bench.child import answer, order
from tests.bench.kafka_log import producing, reading

Publish = Callable[[str, str], Awaitable[Any]]
END = "turn.completed"
_decode = msgspec.json.Decoder(Body).decode


async def drive(
    client: AsyncAnthropic,
    agent: str,
    environment: str,
    turns: asyncio.Queue[str],
    publish: Publish,
) -> None:
    """One session, for ever."""
    made = await client.beta.sessions.create(agent=agent, environment_id=environment)
    async with lines(client, made.id) as events:
        while True:
            await send(client, made.id, await turns.get())
            async for type, json in events:
                await publish(type, json)
                if type == IDLE:
                    break
            await publish(END, "{}")


async def work(told: dict[str, Any]) -> None:
    """All sessions that turns come for, until the process is ended."""
    client, agent, environment = await prepared(told["base_url"], told["sessions"])
    queues: dict[bytes, asyncio.Queue[str]] = {}
    tasks = []
    async with (
        producing(told["bootstrap"]) as producer,
        reading(told["bootstrap"], told["inputs"]) as consumer,
    ):

        def publisher(key: bytes) -> Publish:
            count = iter(range(1, 1_000_000_000))

            async def publish(type: str, json: str) -> None:
                value = f'{{"seq":{next(count)},"type":"{type}","data":{json}}}'.encode()
                await producer.send(told["events"], value, key=key)

            return publish

        answer({"ready": True})
        async for record in consumer:
            if record.key not in queues:
                turns = queues[record.key] = asyncio.Queue()
                driving = drive(client, agent, environment, turns, publisher(record.key))
                tasks.append(asyncio.create_task(driving))
            queues[record.key].put_nowait(_decode(record.value).content)


if __name__ == "__main__":
    uvloop.run(work(order()))
