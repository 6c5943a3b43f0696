"""Leg `first_token`: from the POST of a session's first turn to its first token, prewarmed against cold.

The simulator plays the provider's delays. What the provider publishes of them, and what is assumed here, stands
with each number below and in docs/performance.md: the result is a function of these, and no measurement of the
provider.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from tests.bench.child import ChildError
from tests.bench.figures import percentile, spread_ms
from tests.bench.options import Options
from tests.bench.parts import Parts, running
from tests.bench.results import Result
from tests.bench.wire import Wire

GOAL_S = 2.0
SESSIONS = 8  # a side and point, all at once
LEAD_S = (
    5.0  # assumed: from a prewarm to the first turn, a person who opens a page and writes a line
)
TURN_S = 60.0
# Fitted to two figures of "Prompt caching with Claude" (Anthropic, 2024-08-14): 100,000 tokens 11.5 s uncached and
# 2.4 s cached, 10,000 tokens 31 % less when cached. An old model's; newer ones are not published.
MODEL = {"first_token": 1.98, "uncached": 0.095, "cached": 0.004}
TEXT = "[[script: reply cache=1]] Good morning, what is new? Number {}."
# The model whose cache needs the longest prompt: 4,096 tokens (shared/cache_minimums.toml).
CACHED_MODEL = "claude-haiku-4-5"
SHORT, LONG = 2_000, 4_200  # tokens of a system prompt, by the simulator's count
CHARACTERS_A_TOKEN = 4


@dataclass(frozen=True, slots=True)
class Point:
    """What is assumed of the provider besides the model's own time, in seconds."""

    create: float = 0.0
    provision: float = 0.0
    provision_for: str = "turn"

    def named(self) -> str:
        waits = "every first turn" if self.provision_for == "turn" else "tools only"
        return f"create {self.create:g} s, sandbox {self.provision:g} s ({waits})"

    def delays(self) -> dict[str, Any]:
        own = {"create": self.create, "provision": self.provision}
        return {**MODEL, **own, "provision_for": self.provision_for}


# No figure of either is published, so each is a range. That all of a first turn waits for the sandbox is what the
# provider did until 2026-04-08; since then only what needs it does (its "Scaling Managed Agents", that day).
HEADLINE = Point(create=0.5, provision=4.0)
POINTS = (
    Point(),
    Point(create=1.0),
    Point(provision=1.0),
    Point(provision=2.0),
    HEADLINE,
    Point(create=0.5, provision=8.0),
    Point(create=0.5, provision=4.0, provision_for="tools"),
)


async def measure(options: Options) -> Result:
    """Every point, cold and warm beside each other; then the pair of system prompts."""
    ground = ("kafka", "postgres", "clickhouse", "simulator")
    async with AsyncExitStack() as stack:
        parts = await stack.enter_async_context(running(ground, options.say, options.profiler))
        await stack.enter_async_context(parts.service("gateway"))
        await stack.enter_async_context(parts.service("agent-worker-1"))
        await stack.enter_async_context(parts.service("recorder"))
        await _sides(parts, Point(), "first", 2, lead=0.0)  # warms every path
        found = {}
        for number, point in enumerate(POINTS):
            options.say(f"  {point.named()}")
            found[point] = await _sides(parts, point, str(number), SESSIONS, lead=LEAD_S)
        pair = await _pair(parts)
    return _result(found, pair)


async def _sides(
    parts: Parts, point: Point, run: str, count: int, *, lead: float
) -> tuple[list[float], list[float]]:
    """(cold, warm): the seconds of each session's first turn."""
    async with _provider(parts) as provider:
        await provider.call("POST", "/_sim/delays", point.delays())
    names = [f"first-{run}-{number}" for number in range(count)]
    cold = [_one(parts, f"{name}-cold", prewarm=False, lead=lead) for name in names]
    warm = [_one(parts, f"{name}-warm", prewarm=True, lead=lead) for name in names]
    every = await asyncio.gather(*cold, *warm)
    return every[:count], every[count:]


async def _one(parts: Parts, session: str, *, prewarm: bool, lead: float) -> float:
    client = Wire(parts.addresses.gateway, parts.headers)
    body = {"user_id": "bench", "session_id": session, "prewarm": prewarm}
    await client.call("POST", "/v1/sessions", body)
    await asyncio.sleep(lead)
    seconds, _ = await _turn(client, session, TEXT.format(1))
    await client.close()
    return seconds


async def _turn(client: Wire, session: str, content: str) -> tuple[float, dict[str, Any]]:
    """Seconds from a turn's POST to its first token, and the turn's page at its end."""
    path = f"/v1/sessions/{session}/turns"
    accepted, sent = await client.call("POST", path, {"content": content})
    deadline = time.monotonic() + TURN_S
    while time.monotonic() < deadline:
        await asyncio.sleep(0.05)
        turn, _ = await client.call("GET", f"{path}/{accepted['turn_id']}")
        if turn["status"] == "completed":
            return datetime.fromisoformat(turn["first_token_at"]).timestamp() - sent, turn
    raise ChildError(f"{session}: not completed within {TURN_S:.0f} s: {turn}")


async def _pair(parts: Parts) -> list[str]:
    """Two turns each of an agent whose system prompt is too short for the cache, and of one that is not."""
    lines = []
    for tokens, words in ((SHORT, "below"), (LONG, "above")):
        async with _provider(parts) as provider:
            await provider.call("POST", "/_sim/delays", Point().delays())
            system = "x" * (tokens * CHARACTERS_A_TOKEN)
            wanted = {"name": words, "model": CACHED_MODEL, "system": system}
            agent, _ = await provider.call("POST", "/v1/agents", wanted)
        client = Wire(parts.addresses.gateway, parts.headers)
        session = f"prompt-{words}"
        body = {"user_id": "bench", "session_id": session, "agent": agent["id"]}
        await client.call("POST", "/v1/sessions", body)
        told = [await _turn(client, session, TEXT.format(number)) for number in (1, 2)]
        await client.close()
        said = "; ".join(_told(*one) for one in told)
        lines.append(f"{words} the minimum ({tokens:,} tokens, {CACHED_MODEL}): {said}")
    return lines


def _told(seconds: float, turn: dict[str, Any]) -> str:
    usage = turn["usage"]
    kinds = ("input_tokens", "cache_write_tokens", "cache_read_tokens")
    fresh, written, read = (usage[kind] for kind in kinds)
    return (
        f"{fresh + written + read:,} tokens, {written:,} written, {read:,} read, "
        f"{seconds:.2f} s, ${float(turn['cost_usd']):.6f}"
    )


@asynccontextmanager
async def _provider(parts: Parts) -> AsyncIterator[Wire]:
    """The simulator's own interface and its API."""
    url = parts.addresses.anthropic_base_url
    assert url is not None
    version, beta = "2026-10-21", "managed-agents-2026-04-01"
    headers = {"x-api-key": "bench", "anthropic-version": version, "anthropic-beta": beta}
    wire = Wire(url, {**headers, "content-type": "application/json"})
    try:
        yield wire
    finally:
        await wire.close()


def _result(found: dict[Point, tuple[list[float], list[float]]], pair: list[str]) -> Result:
    cold, warm = found[HEADLINE]
    notes = [
        f"assumed: {HEADLINE.named()}, prewarmed {LEAD_S:g} s before; {SESSIONS} sessions a side at once",
        *(_point(point, *sides) for point, sides in found.items()),
        *(f"two turns, system prompt {line}" for line in pair),
    ]
    return Result(
        leg="first_token",
        unit="s sooner, of a goal of 2",
        ours=_saved(cold, warm),
        bare=GOAL_S,
        target=1.0,
        ours_ms=spread_ms(warm),
        bare_ms=spread_ms(cold),
        notes=notes,
    )


def _saved(cold: list[float], warm: list[float]) -> float:
    return percentile(cold, 50) - percentile(warm, 50)


def _point(point: Point, cold: list[float], warm: list[float]) -> str:
    return (
        f"{point.named()}: cold {percentile(cold, 50):.2f} s, warm {percentile(warm, 50):.2f} s, saved "
        f"{_saved(cold, warm):.2f} s of {hoped(point, LEAD_S):.1f} s that could be"
    )


def hoped(point: Point, lead: float) -> float:
    """The seconds that a prewarm so long before can save: provisioning begins as the session is made, beside the
    answer to that."""
    waits = point.provision if point.provision_for == "turn" else 0.0
    return min(max(point.create, waits), lead)
