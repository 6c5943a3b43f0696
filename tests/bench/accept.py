"""Leg `accept`: turns a second that the gateway accepts, against the barest program and against an endpoint as one
writes it by hand; beside it the barest program that keeps the same promises (`kept_accept`); and sessions that it
opens."""

from __future__ import annotations

from contextlib import AsyncExitStack
from dataclasses import replace
from statistics import median
from typing import Any

from infra.kafka.topics import create_topics
from infra.local.ports import free_ports
from shared.bus.topics import Topic
from tests.bench import child
from tests.bench.cpu import family_seconds
from tests.bench.figures import rounds_of
from tests.bench.options import Options
from tests.bench.parts import Parts, running
from tests.bench.results import Result
from tests.bench.wire import open_sessions

CONNECTIONS = 32
ROUNDS = 3
TARGET = 0.8
# Times the hand-written endpoint; of the rate of turns; times bare.
PLAIN_TARGET, OPENED_TARGET, P99_TARGET = 2.0, 0.5, 2.0
TOPIC = Topic("bench.accept", "what the bare programs accept", "bench", "nobody", 3_600_000)
KEPT_TOPIC = replace(TOPIC, name="bench.kept")
TEXT = "Please compare these two offers for me and say which one is better, and why. " * 5
WARM_UP_S = 1.0
OTHERS = {
    "bare": "tests.bench.bare_accept",
    "kept": "tests.bench.kept_accept",
    "plain": "tests.bench.plain_endpoint",
}
TURNS = (
    [f"/v1/sessions/bench-{n}/turns" for n in range(CONNECTIONS)],
    f'{{"content":"{TEXT}"}}',
    "202",
)
OPENINGS = (["/v1/sessions"] * CONNECTIONS, '{"user_id":"bench"}', "201")


async def measure(options: Options) -> Result:
    """Rounds of ours and bare in turns, with the same load."""
    ground = ("kafka", "postgres", "clickhouse")
    async with AsyncExitStack() as stack:
        parts = await stack.enter_async_context(running(ground, options.say, options.profiler))
        await create_topics(parts.addresses.kafka, [TOPIC, KEPT_TOPIC])
        gateway = await stack.enter_async_context(parts.service("gateway"))
        ids = (f"bench-{number}" for number in range(CONNECTIONS))
        await open_sessions(parts.addresses.gateway, parts.headers, ids)
        urls, pids = {"ours": parts.addresses.gateway}, {"ours": gateway}
        for side, port in zip(OTHERS, free_ports(len(OTHERS)), strict=True):
            topic = KEPT_TOPIC if side == "kept" else TOPIC
            told = {"port": port, "bootstrap": parts.addresses.kafka, "topic": topic.name}
            if side == "kept":
                told |= {"database": parts.addresses.database_url, "key": parts.keys.first}
            pids[side] = await stack.enter_async_context(child.serving(OTHERS[side], told))
            urls[side] = f"http://127.0.0.1:{port}"
        for side in urls:
            await press(parts, urls[side], WARM_UP_S)
        urls["opened"], pids["opened"] = urls["ours"], pids["ours"]
        found: dict[str, list[dict[str, Any]]] = {side: [] for side in urls}
        for _ in range(options.rounds or ROUNDS):
            for side in urls:
                found[side].append(await _round(parts, side, urls[side], pids[side], options))
    return _result(found)


async def _round(parts: Parts, side: str, url: str, pid: int, options: Options) -> dict[str, Any]:
    await parts.rest()
    before = family_seconds(pid)
    if side == "ours":
        async with parts.profiler.watching("accept", pid):
            facts = await press(parts, url, options.seconds)
    else:
        load = OPENINGS if side == "opened" else TURNS
        facts = await press(parts, url, options.seconds, load)
    facts["rate"] = facts["count"] / facts["seconds"]
    await parts.rest()  # rows of what was accepted are written behind, and are part of its cost
    facts["cpu_ms"] = 1000 * (family_seconds(pid) - before) / max(1, facts["count"])
    parts.say(f"  {side}: {facts['rate']:,.0f} requests/s, p50 {facts['p50_ms']:.1f} ms")
    return facts


async def press(
    parts: Parts, url: str, seconds: float, load: tuple[list[str], str, str] = TURNS
) -> dict[str, Any]:
    """What CONNECTIONS that post all the time got. Raises ChildError for any other answer than the load's."""
    paths, body, status = load
    told = {
        "url": url,
        "paths": paths,
        "headers": parts.headers,
        "body": body,
        "seconds": seconds,
        "expect": status,
    }
    facts = await child.run("tests.bench.load", told, seconds + 60)
    if facts["errors"]:
        raise child.ChildError(f"{url}: {facts['errors'][0]}")
    return facts


def _result(found: dict[str, list[dict[str, Any]]]) -> Result:
    def of(side: str, name: str) -> float:
        return median(float(facts[name]) for facts in found[side])

    rates = {side: [facts["rate"] for facts in found[side]] for side in found}
    rate = {side: of(side, "rate") for side in found}
    ours_ms, bare_ms = ((of(s, "p50_ms"), of(s, "p99_ms")) for s in ("ours", "bare"))
    return Result(
        leg="accept",
        unit="requests/s",
        ours=rate["ours"],
        bare=rate["bare"],
        target=TARGET,
        ours_ms=ours_ms,
        bare_ms=bare_ms,
        notes=[
            rounds_of(rates["ours"], rates["bare"], "requests/s"),
            "CPU a request, all processes of the side: "
            + ", ".join(f"{side} {of(side, 'cpu_ms'):.3f} ms" for side in found),
            _kept(rate),
            f"an endpoint written by hand: {rate['plain']:,.0f} requests/s; ours is "
            + _against(rate["ours"] / rate["plain"], PLAIN_TARGET),
            f"p99: {_against(ours_ms[1] / bare_ms[1], P99_TARGET, at_most=True)} of bare",
            f"sessions opened with ids made here: {rate['opened']:,.0f} a second, of the turns "
            + _against(rate["opened"] / rate["ours"], OPENED_TARGET),
        ],
    )


def _kept(rate: dict[str, float]) -> str:
    ours, bare = rate["ours"] / rate["kept"], rate["kept"] / rate["bare"]
    return (
        f"the barest program that keeps the same promises: {rate['kept']:,.0f} requests/s, "
        f"{bare:.2f} of bare; ours is {ours:.2f} of it"
    )


def _against(ratio: float, target: float, *, at_most: bool = False) -> str:
    met = ratio <= target if at_most else ratio >= target
    return f"{ratio:.2f} ({'≤' if at_most else '≥'} {target:g} {'met' if met else 'missed'})"
