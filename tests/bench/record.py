"""Leg `record`: events from the log into the archive, against inserting the same ready rows.

Both sides are timed by the archive's own clock: rows in all inserts but the last, divided by the
time from the start of the first insert to the start of the last one.
"""

from __future__ import annotations

import asyncio
import random
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import cache
from pathlib import Path
from statistics import median
from typing import Any

import clickhouse_connect

from shared.bus.topics import EVENTS
from tests.bench import child
from tests.bench.cpu import cpu_seconds
from tests.bench.figures import rounds_of
from tests.bench.kafka_log import Record, producing, publish
from tests.bench.options import Options
from tests.bench.parts import Parts, running
from tests.bench.results import Result
from tests.bench.samples import records, renamed

ROUNDS = 3
TARGET = 0.7
ROWS_PER_SECOND = 25_000  # asked for, of every second of a round
BATCH = 10_000  # the recorder's own
IN_TIME_S = 120.0
TEMPLATE = "tenant-of-the-template"
_RATE = """
SELECT sum(n), count(), (sum(n) - argMax(n, at)) / (dateDiff('millisecond', min(at), max(at)) / 1000)
FROM (
    SELECT recorded_at AS at, count() AS n FROM session_events
    WHERE tenant_id = {tenant:String} GROUP BY recorded_at
)
"""


@dataclass(frozen=True, slots=True)
class Side:
    """One round of one side: rows a second, rows an insert, processor seconds of client and archive."""

    rate: float
    batch: float
    client_cpu: float
    archive_cpu: float


async def measure(options: Options) -> Result:
    """Rounds of ours and bare in turns, each with new rows of the same kind."""
    count = max(3 * BATCH, int(options.seconds * ROWS_PER_SECOND))
    ours: list[Side] = []
    bare: list[Side] = []
    async with running(("kafka", "postgres", "clickhouse"), options.say, options.profiler) as parts:
        archive = await asyncio.to_thread(_connect, parts.addresses.clickhouse_url)
        for number in range(options.rounds or ROUNDS):
            ours.append(await _ours(parts, archive, f"ours{number}", count))
            bare.append(await _bare(parts, archive, f"bare{number}", count))
    return _result(ours, bare, count)


async def _ours(parts: Parts, archive: Any, tenant: str, count: int) -> Side:
    """Fill the topic, then start the recorder and let it catch up."""
    async with producing(parts.addresses.kafka) as producer:
        await publish(producer, EVENTS.name, _rows(tenant, count))
    await parts.rest()
    engine = parts.pid("clickhouse")
    async with parts.service("recorder") as recorder:
        used = cpu_seconds(engine)
        async with parts.profiler.watching("record", recorder):
            await _until_there(archive, tenant, count)
        cpu = cpu_seconds(recorder), cpu_seconds(engine) - used
    return await _side(parts, archive, tenant, count, cpu)


async def _bare(parts: Parts, archive: Any, tenant: str, count: int) -> Side:
    with tempfile.TemporaryDirectory(prefix="turnstile-bench-") as folder:
        path = Path(folder, "rows.jsonl")
        await asyncio.to_thread(_write, path, tenant, count)
        await parts.rest()
        engine = parts.pid("clickhouse")
        used = cpu_seconds(engine)
        url = parts.addresses.clickhouse_url
        told = {"url": url, "file": str(path), "batch": BATCH}
        facts = await child.run("tests.bench.bare_record", told, IN_TIME_S)
        cpu = facts["cpu_seconds"], cpu_seconds(engine) - used
    return await _side(parts, archive, tenant, count, cpu)


async def _until_there(archive: Any, tenant: str, count: int) -> None:
    deadline = time.monotonic() + IN_TIME_S
    query = "SELECT count() FROM session_events WHERE tenant_id = {tenant:String}"
    while (there := (await _ask(archive, query, tenant))[0]) < count:
        if time.monotonic() > deadline:
            raise child.ChildError(f"{there} of {count} rows after {IN_TIME_S:.0f} s")
        await asyncio.sleep(0.25)


async def _side(
    parts: Parts, archive: Any, tenant: str, count: int, cpu: tuple[float, float]
) -> Side:
    there, inserts, rate = await _ask(archive, _RATE, tenant)
    if there != count:
        raise child.ChildError(f"{tenant}: {there} rows instead of {count}")
    parts.say(f"  {tenant}: {rate:,.0f} rows/s in {inserts} inserts")
    return Side(rate, count / inserts, *cpu)


async def _ask(archive: Any, query: str, tenant: str) -> Any:
    found = await asyncio.to_thread(archive.query, query, parameters={"tenant": tenant})
    return found.result_rows[0]


@cache
def _template(count: int) -> list[Record]:
    began = datetime(2026, 11, 2, 8, tzinfo=UTC)
    return list(records(count, TEMPLATE, began, random.Random(1)))


def _rows(tenant: str, count: int) -> Iterator[Record]:
    """The same for every tenant but for its name."""
    return renamed(_template(count), TEMPLATE, tenant)


def _write(path: Path, tenant: str, count: int) -> None:
    path.write_bytes(b"\n".join(value for _, value, _ in _rows(tenant, count)))


def _connect(url: str) -> Any:
    make: Any = clickhouse_connect.get_client
    return make(dsn=url, autogenerate_session_id=False)


def _result(ours: list[Side], bare: list[Side], count: int) -> Result:
    def each(sides: list[Side], used: str) -> str:
        return f"{median(getattr(side, used) for side in sides) / count * 1e6:.1f} µs"

    rates = [side.rate for side in ours], [side.rate for side in bare]
    return Result(
        leg="record",
        unit="rows/s",
        ours=median(rates[0]),
        bare=median(rates[1]),
        target=TARGET,
        notes=[
            rounds_of(*rates, "rows/s"),
            f"{count:,} rows a round, {median(side.batch for side in ours):,.0f} an insert of ours",
            f"CPU a row: recorder (its start included) {each(ours, 'client_cpu')}, archive under it "
            f"{each(ours, 'archive_cpu')}; bare {each(bare, 'client_cpu')}, archive under it "
            + each(bare, "archive_cpu"),
        ],
    )
