"""Programs that talk to agents and do nothing else: the SDK, one stream a session, send, wait for idle.

A program: order `{base_url, sessions, turns, text, reading}`; answer `{turns, seconds, p50_ms, p99_ms,
cpu_seconds}`. It keeps nothing, survives nothing and counts nothing but idles. `reading` says which of two it is:

- `sdk`: as the SDK's documentation shows it, `async for event in stream`, every event an object of its type.
- `raw`: the same requests; the stream is read as lines, and of a line no more than its type.
"""

from __future__ import annotations

import asyncio
import os
import time
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from typing import Any

import msgspec
import uvloop
from anthropic import AsyncAnthropic, DefaultAsyncHttpxClient
from httpx2 import Limits

from tests.bench.child import answer, order
from tests.bench.figures import spread_ms


class _Head(msgspec.Struct):
    type: str = ""


# Ample: a thousand connections are opened at once, on a machine that may be busy.
TIMEOUT_S = 120.0
_decode = msgspec.json.Decoder(_Head).decode
IDLE = "session.status_idle"
Types = AsyncIterator[str]


@asynccontextmanager
async def _sdk(client: AsyncAnthropic, session: str) -> AsyncIterator[Types]:
    async with await client.beta.sessions.events.stream(session) as stream:
        yield (event.type async for event in stream)


@asynccontextmanager
async def lines(
    client: AsyncAnthropic, session: str
) -> AsyncIterator[AsyncIterator[tuple[str, str]]]:
    """Type and JSON of each event, as the stream's lines have it."""
    streams = client.beta.sessions.events.with_streaming_response
    async with streams.stream(session) as stream:
        data = (line[6:] async for line in stream.iter_lines() if line.startswith("data: "))
        yield ((_decode(json).type, json) async for json in data)


@asynccontextmanager
async def _raw(client: AsyncAnthropic, session: str) -> AsyncIterator[Types]:
    async with lines(client, session) as found:
        yield (type async for type, _ in found)


READING: dict[str, Callable[[AsyncAnthropic, str], AbstractAsyncContextManager[Types]]] = {
    "sdk": _sdk,
    "raw": _raw,
}


async def send(client: AsyncAnthropic, session: str, text: str) -> None:
    """One message of the user."""
    content: Any = [{"type": "text", "text": text}]
    await client.beta.sessions.events.send(
        session, events=[{"type": "user.message", "content": content}]
    )


async def talk(
    client: AsyncAnthropic, agent: str, environment: str, told: dict[str, Any]
) -> list[float]:
    """One conversation; the seconds of each turn."""
    made = await client.beta.sessions.create(agent=agent, environment_id=environment)
    seconds = []
    async with READING[told["reading"]](client, made.id) as types:
        for number in range(told["turns"]):
            began = time.perf_counter()
            await send(client, made.id, f"{told['text']} {number}")
            async for type in types:
                if type == IDLE:
                    break
            else:
                raise RuntimeError("the stream ended in mid-turn")
            seconds.append(time.perf_counter() - began)
    return seconds


async def prepared(base_url: str, sessions: int) -> tuple[AsyncAnthropic, str, str]:
    """A client for that many sessions at once, the ids of an agent and an environment."""
    limits = Limits(max_connections=3 * sessions, max_keepalive_connections=None)
    client = AsyncAnthropic(
        api_key="simulated-no-secret",
        base_url=base_url,
        max_retries=0,
        timeout=TIMEOUT_S,
        http_client=DefaultAsyncHttpxClient(limits=limits),
    )
    name = f"bench-{os.getpid()}"
    agent = await client.beta.agents.create(name=name, model="claude-sonnet-5")
    environment = await client.beta.environments.create(
        name=name, config={"type": "cloud", "networking": {"type": "unrestricted"}}
    )
    return client, agent.id, environment.id


async def play(told: dict[str, Any]) -> dict[str, Any]:
    """All conversations at once."""
    client, agent, environment = await prepared(told["base_url"], told["sessions"])
    cpu, began = time.process_time(), time.perf_counter()
    talks = (talk(client, agent, environment, told) for _ in range(told["sessions"]))
    each = await asyncio.gather(*talks)
    seconds = time.perf_counter() - began
    cpu = time.process_time() - cpu
    await client.close()
    samples = [sample for one in each for sample in one]
    p50, p99 = spread_ms(samples)
    return {
        "turns": len(samples),
        "seconds": seconds,
        "p50_ms": p50,
        "p99_ms": p99,
        "cpu_seconds": cpu,
    }


if __name__ == "__main__":
    answer(uvloop.run(play(order())))
