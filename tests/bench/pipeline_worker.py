"""The worker of the barest pipeline: reads turns from a topic, sends each to its session's agent, and publishes
what the agent says as it came.

A program: order `{base_url, bootstrap, inputs, events, sessions, database}`; writes a line when it reads, ends on
SIGTERM. It keeps nothing: no row, no offset, no order but that of one session's turns, and what it is in when it
dies is gone. With a `database` (asyncpg's URL, else "") it commits a row of STATE_BYTES before each send, as one
has to who wants to know what was sent.
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import Awaitable, Callable
from typing import Any

import asyncpg
import msgspec
import uvloop
from anthropic import AsyncAnthropic

from tests.bench.bare_accept import Body
from tests.bench.bare_sessions import IDLE, lines, prepared, send
from tests.bench.child import answer, order
from tests.bench.kafka_log import producing, reading

Publish = Callable[[str, str], Awaitable[Any]]
Keep = Callable[[str], Awaitable[Any]]
# About what a head row of ours has when a turn begins.
STATE_BYTES = 2_000
END = "turn.completed"
_decode = msgspec.json.Decoder(Body).decode


async def drive(
    client: AsyncAnthropic,
    agent: str,
    environment: str,
    turns: asyncio.Queue[str],
    publish: Publish,
    keep: Keep,
) -> None:
    """One session, for ever."""
    made = await client.beta.sessions.create(agent=agent, environment_id=environment)
    async with lines(client, made.id) as events:
        while True:
            turn = await turns.get()
            await keep(made.id)
            await send(client, made.id, turn)
            async for type, json in events:
                await publish(type, json)
                if type == IDLE:
                    break
            await publish(END, "{}")


async def keeping(database: str) -> Keep:
    """What commits a session's row."""
    if not database:
        return _nothing
    connection = await asyncpg.connect(database)
    await connection.execute("CREATE TABLE pipeline (session text PRIMARY KEY, state bytea)")
    words = "INSERT INTO pipeline VALUES ($1, $2) ON CONFLICT (session) DO UPDATE SET state = $2"
    write = await connection.prepare(words)

    async def keep(session: str) -> None:
        await write.fetch(session, os.urandom(STATE_BYTES))

    return keep


async def _nothing(_: str) -> None:
    """Keeps nothing."""


async def work(told: dict[str, Any]) -> None:
    """All sessions that turns come for, until the process is ended."""
    client, agent, environment = await prepared(told["base_url"], told["sessions"])
    keep = await keeping(told["database"])
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
                driving = drive(client, agent, environment, turns, publisher(record.key), keep)
                tasks.append(asyncio.create_task(driving))
            queues[record.key].put_nowait(_decode(record.value).content)


if __name__ == "__main__":
    uvloop.run(work(order()))
