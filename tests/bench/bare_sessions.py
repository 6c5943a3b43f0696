"""The barest program that talks to agents: the SDK, one raw stream a session, send, wait for idle.

A program: order `{base_url, sessions, turns, text}`; answer `{turns, seconds, p50_ms,
p99_ms, cpu_seconds}`. It keeps nothing, survives nothing and counts nothing but idles.
"""

from __future__ import annotations

import asyncio
import os
import time
from collections.abc import AsyncIterator
from typing import Any

import msgspec
import uvloop
from anthropic import AsyncAnthropic, DefaultAsyncHttpxClient
from httpx2 import Limits

from tests.bench.child import answer, order
from tests.bench.figures import spread_ms

TURN_S = 60.0


class _StopReason(msgspec.Struct):
    type: str = ""


class _Head(msgspec.Struct):
    type: str = ""
    stop_reason: _StopReason | None = None


_decode = msgspec.json.Decoder(_Head).decode


async def talk(client: Any, agent: str, environment: str, told: dict[str, Any]) -> list[float]:
    """One conversation; the seconds of each turn."""
    made = await client.beta.sessions.create(agent=agent, environment_id=environment)
    events = client.beta.sessions.events
    seconds = []
    async with events.with_streaming_response.stream(made.id) as stream:
        lines = stream.iter_lines()
        for number in range(told["turns"]):
            began = time.perf_counter()
            text = {"type": "text", "text": f"{told['text']} {number}"}
            await events.send(made.id, events=[{"type": "user.message", "content": [text]}])
            await asyncio.wait_for(_idle(lines), TURN_S)
            seconds.append(time.perf_counter() - began)
    return seconds


async def _idle(lines: AsyncIterator[str]) -> None:
    """Read on until the turn has ended."""
    async for line in lines:
        if line.startswith("data: "):
            head = _decode(line[6:])
            if head.type == "session.status_idle":
                return
    raise RuntimeError("the stream ended in mid-turn")


async def play(told: dict[str, Any]) -> dict[str, Any]:
    """All conversations at once."""
    limits = Limits(max_connections=3 * told["sessions"], max_keepalive_connections=None)
    client = AsyncAnthropic(
        api_key="simulated-no-secret",
        base_url=told["base_url"],
        max_retries=0,
        http_client=DefaultAsyncHttpxClient(limits=limits),
    )
    name = f"bench-{os.getpid()}"
    agent = await client.beta.agents.create(name=name, model="claude-sonnet-5")
    environment = await client.beta.environments.create(
        name=name, config={"type": "cloud", "networking": {"type": "unrestricted"}}
    )
    cpu, began = time.process_time(), time.perf_counter()
    talks = (talk(client, agent.id, environment.id, told) for _ in range(told["sessions"]))
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
