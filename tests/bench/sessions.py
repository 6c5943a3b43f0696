"""Leg `sessions`: turns a second of one worker with many sessions at once, against the SDK loop, which reads events
as the SDK's documentation shows it; the loop that reads raw lines is reported beside it.

The worker gets its turns from the inputs topic, all at once; its time runs from the first record
until the last `turn.completed` is on the events topic.
"""

from __future__ import annotations

import asyncio
import re
import time
import urllib.request
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import AsyncExitStack
from dataclasses import dataclass
from itertools import product
from statistics import median
from typing import Any

import msgspec

from shared.bus.topics import EVENTS, INPUTS
from shared.moment import parse
from shared.session.events import Turn, read_event
from tests.bench import child
from tests.bench.asking import wish
from tests.bench.cpu import cpu_seconds
from tests.bench.figures import rounds_of, spread_ms
from tests.bench.kafka_log import Record, producing, publish, reading, rest_of
from tests.bench.options import Options
from tests.bench.parts import Parts, running
from tests.bench.results import Result

ROUNDS = 2
TARGET = 1.0
TEXT = "[[script: reply]] What do you make of this, and what would you do next? Turn"
IN_TIME_S = 240.0
SIDES = ("ours", "sdk", "raw")
# Each look has the worker write all its metrics, which a scrape every 15 s does rarely.
LOOK_S = 1.0
_ENDED = re.compile(r'^turnstile_turns_ended_total\{[^}]*status="completed"[^}]*\} (\S+)$', re.M)


@dataclass(frozen=True, slots=True)
class Round:
    """Turns a second, milliseconds of a turn (p50, p99), processor milliseconds a turn: the workers' or the
    program's, and the simulator's beside it."""

    rate: float
    turn_ms: tuple[float, float]
    cpu_ms: float
    provider_cpu_ms: float


async def measure(options: Options, sessions: int = 200, turns: int = 5) -> Result:
    """Rounds of all sides in turns on one simulator; `seconds` plays no part."""
    ground = ("kafka", "postgres", "clickhouse", "simulator")
    leg = "sessions" if sessions == 200 else f"sessions-{sessions}"
    found: dict[str, list[Round]] = {side: [] for side in SIDES}
    async with AsyncExitStack() as stack:
        parts = await stack.enter_async_context(running(ground, options.say, options.profiler))
        worker = await stack.enter_async_context(parts.service("agent-worker-1"))
        for number, side in product(range(options.rounds or ROUNDS), SIDES):
            await parts.rest()
            if side == "ours":
                async with parts.profiler.watching(leg, worker):
                    its = {"agent-worker-1": worker}
                    done = await driven(parts, its, list(wishes(number, sessions, turns)))
            else:
                done = await _bare(parts, sessions, turns, side)
            found[side].append(done)
            options.say(f"  {side}: {done.rate:.0f} turns/s, {done.cpu_ms:.2f} ms of processor")
    return _result(leg, found)


async def driven(parts: Parts, workers: Mapping[str, int], asked: list[Record]) -> Round:
    """A round of these turns. `workers`: pid by name of the part. Raises ChildError when they do not all end."""
    kafka, count = parts.addresses.kafka, len(asked)
    simulator = parts.pid("simulator")
    async with reading(kafka, EVENTS.name) as consumer, producing(kafka) as producer:
        before = await _ended(parts, workers)
        used = [*map(cpu_seconds, workers.values())], cpu_seconds(simulator)
        began = time.time()
        await publish(producer, INPUTS.name, asked)
        await _until_ended(parts, workers, before + count)
        cpu = (
            sum(map(cpu_seconds, workers.values())) - sum(used[0]),
            cpu_seconds(simulator) - used[1],
        )
        said = await rest_of(consumer)
    ends = _ends(said)
    if len(ends) != count:
        raise child.ChildError(f"{len(ends)} of {count} turns on the events topic\n")
    seconds = max(record.timestamp for record in ends) / 1000 - began
    spread = spread_ms(_duration(record.value) for record in ends)
    return Round(count / seconds, spread, *(1000 * each / count for each in cpu))


def _ends(said: Iterable[Any]) -> list[Any]:
    """The first record of each `turn.completed`: who takes a session over may say again what was said."""
    first: dict[bytes, Any] = {}
    for record in said:
        headers = dict(record.headers)
        if headers["ce_type"] == b"turn.completed":
            first.setdefault(headers["ce_id"], record)
    return list(first.values())


def bare_order(parts: Parts, sessions: int, turns: int, reading: str) -> dict[str, Any]:
    """What the bare program is told; `reading` as it says."""
    return {
        "base_url": parts.addresses.anthropic_base_url,
        "sessions": sessions,
        "turns": turns,
        "text": TEXT,
        "reading": reading,
    }


async def _bare(parts: Parts, sessions: int, turns: int, reading: str) -> Round:
    simulator = parts.pid("simulator")
    used = cpu_seconds(simulator)
    told = bare_order(parts, sessions, turns, reading)
    facts = await child.run("tests.bench.bare_sessions", told, IN_TIME_S)
    count = facts["turns"]
    return Round(
        count / facts["seconds"],
        (facts["p50_ms"], facts["p99_ms"]),
        1000 * facts["cpu_seconds"] / count,
        1000 * (cpu_seconds(simulator) - used) / count,
    )


def wishes(number: int, sessions: int, turns: int) -> Iterator[Record]:
    """The first turns of all sessions, then the second ones, and so on; sessions new in every round."""
    for turn, place in product(range(turns), range(sessions)):
        yield wish(f"bench-{number}-{place}", f"turn-{turn}", f"{TEXT} {turn}")


async def _until_ended(parts: Parts, workers: Iterable[str], wanted: float) -> None:
    deadline = time.monotonic() + IN_TIME_S
    while (there := await _ended(parts, workers)) < wanted:
        if time.monotonic() > deadline:
            logs = "\n".join(map(parts.log, workers))
            raise child.ChildError(f"{there:.0f} of {wanted:.0f} turns completed\n{logs}")
        await asyncio.sleep(LOOK_S)


async def _ended(parts: Parts, workers: Iterable[str]) -> float:
    """How many turns these workers completed since their start."""
    urls = [f"{parts.health(name)}/metrics" for name in workers]
    texts = await asyncio.gather(*(asyncio.to_thread(_get, url) for url in urls))
    return sum(float(value) for text in texts for value in _ENDED.findall(text))


def _get(url: str) -> str:
    with urllib.request.urlopen(url, timeout=10) as answer:
        text: bytes = answer.read()
    return text.decode()


def _duration(value: bytes) -> float:
    """Seconds from the start of a turn to its end, as `turn.completed` tells."""
    turn = msgspec.json.decode(read_event(value).data, type=Turn)
    assert turn.started_at is not None
    assert turn.ended_at is not None
    return (parse(turn.ended_at) - parse(turn.started_at)).total_seconds()


def _result(leg: str, found: dict[str, list[Round]]) -> Result:
    def of(side: str, pick: Callable[[Round], float]) -> float:
        return median(pick(done) for done in found[side])

    def spread(side: str) -> tuple[float, float]:
        return of(side, lambda d: d.turn_ms[0]), of(side, lambda d: d.turn_ms[1])

    rates = {side: of(side, lambda done: done.rate) for side in SIDES}
    cpu = ", ".join(
        f"{side} {of(side, lambda d: d.cpu_ms):.2f} ms (simulator "
        f"{of(side, lambda d: d.provider_cpu_ms):.2f})"
        for side in SIDES
    )
    raw = ", ".join(f"{done.rate:,.0f}" for done in found["raw"])
    return Result(
        leg=leg,
        unit="turns/s",
        ours=rates["ours"],
        bare=rates["sdk"],
        target=TARGET,
        ours_ms=spread("ours"),
        bare_ms=spread("sdk"),
        notes=[
            rounds_of((d.rate for d in found["ours"]), (d.rate for d in found["sdk"]), "turns/s"),
            f"the loop that reads raw lines: {raw}; ratio {rates['ours'] / rates['raw']:.2f}",
            f"CPU a turn: {cpu}",
        ],
    )
