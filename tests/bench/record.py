"""Leg `record`: events from the log into the archive, against inserting the same ready rows into the same tables,
and into one plain table: the events' own without those that are filled from it.

All sides are timed by the archive's own clock: rows from the first full batch to the last, divided by the time from
the start of the one to the start of the other. What comes before is a start (the recorder inserts at once what it
finds first), and what comes after a wait: a batch that is not full has its second. The log is compressed as the
agent-worker compresses it.
"""

from __future__ import annotations

import asyncio
import random
import tempfile
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import cache
from pathlib import Path
from statistics import median
from typing import Any

import clickhouse_connect

from services.recorder.settings import RecorderSettings
from shared.archive_insert import TABLE
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
TARGET, PLAIN_TARGET = 0.7, 0.4
ROWS_PER_SECOND = 50_000  # asked for, of every second of a round
BATCH = RecorderSettings().recorder_batch_rows
PLAIN = "bench_plain"
IN_TIME_S = 120.0
TEMPLATE = "tenant-of-the-template"
# Inserts that begin within so many seconds belong together: two halves of one batch.
TOGETHER_S = 0.1
_INSERTS = """
SELECT toUnixTimestamp64Milli(recorded_at) / 1000 AS at, count() FROM {table:Identifier}
WHERE tenant_id = {tenant:String} GROUP BY at ORDER BY at
"""


@dataclass(frozen=True, slots=True)
class Side:
    """One round of one side: rows a second, the same with its start and its last wait, rows an insert, processor
    seconds of client and archive."""

    rate: float
    overall: float
    batch: float
    client_cpu: float
    archive_cpu: float


async def measure(options: Options) -> Result:
    """Rounds of ours, bare and plain in turns, each with new rows of the same kind."""
    count = max(4 * BATCH, int(options.seconds * ROWS_PER_SECOND))
    ours: list[Side] = []
    bare: list[Side] = []
    plain: list[Side] = []
    async with running(("kafka", "postgres", "clickhouse"), options.say, options.profiler) as parts:
        archive = await asyncio.to_thread(_connect, parts.addresses.clickhouse_url)
        await asyncio.to_thread(archive.command, f"CREATE TABLE {PLAIN} AS {TABLE}")
        for number in range(options.rounds or ROUNDS):
            ours.append(await _ours(parts, archive, f"ours{number}", count))
            bare.append(await _bare(parts, archive, TABLE, f"bare{number}", count))
            plain.append(await _bare(parts, archive, PLAIN, f"plain{number}", count))
    return _result(ours, bare, plain, count)


async def _ours(parts: Parts, archive: Any, tenant: str, count: int) -> Side:
    """Fill the topic, then start the recorder and let it catch up."""
    async with producing(parts.addresses.kafka, compression_type="lz4") as producer:
        await publish(producer, EVENTS.name, _rows(tenant, count))
    await parts.rest()
    engine = parts.pid("clickhouse")
    async with parts.service("recorder") as recorder:
        used = cpu_seconds(engine)
        async with parts.profiler.watching("record", recorder):
            await _until_there(archive, tenant, count)
        cpu = cpu_seconds(recorder), cpu_seconds(engine) - used
    return await _side(parts, archive, TABLE, tenant, count, cpu)


async def _bare(parts: Parts, archive: Any, table: str, tenant: str, count: int) -> Side:
    with tempfile.TemporaryDirectory(prefix="turnstile-bench-") as folder:
        path = Path(folder, "rows.jsonl")
        await asyncio.to_thread(_write, path, tenant, count)
        await parts.rest()
        engine = parts.pid("clickhouse")
        used = cpu_seconds(engine)
        url = parts.addresses.clickhouse_url
        told = {"url": url, "table": table, "file": str(path), "batch": BATCH}
        facts = await child.run("tests.bench.bare_record", told, IN_TIME_S)
        cpu = facts["cpu_seconds"], cpu_seconds(engine) - used
    return await _side(parts, archive, table, tenant, count, cpu)


async def _until_there(archive: Any, tenant: str, count: int) -> None:
    deadline = time.monotonic() + IN_TIME_S
    query = "SELECT count() FROM {table:Identifier} WHERE tenant_id = {tenant:String}"
    while (there := (await _ask(archive, query, TABLE, tenant))[0]) < count:
        if time.monotonic() > deadline:
            raise child.ChildError(f"{there} of {count} rows after {IN_TIME_S:.0f} s")
        await asyncio.sleep(0.5)  # each look is paid by what is measured


async def _side(
    parts: Parts, archive: Any, table: str, tenant: str, count: int, cpu: tuple[float, float]
) -> Side:
    inserts = (await asyncio.to_thread(_query, archive, _INSERTS, table, tenant)).result_rows
    if (there := sum(rows for _, rows in inserts)) != count:
        raise child.ChildError(f"{tenant}: {there} rows instead of {count}")
    rate, overall = rates(inserts)
    parts.say(f"  {tenant}: {rate:,.0f} rows/s in {len(inserts)} inserts")
    return Side(rate, overall, count / len(inserts), *cpu)


def rates(inserts: Sequence[tuple[float, int]]) -> tuple[float, float]:
    """Rows a second from the first full batch to the last, and from the first insert to the last, of which each
    began at a moment and had so many rows. What begins last is not counted: nobody knows when it ended."""
    batches: list[tuple[float, int]] = []
    last = float("-inf")
    for at, rows in inserts:
        if at - last < TOGETHER_S:
            batches[-1] = batches[-1][0], batches[-1][1] + rows
        else:
            batches.append((at, rows))
        last = at
    full = [place for place, (_, rows) in enumerate(batches) if rows > 0.9 * BATCH]

    def between(first: int, last: int) -> float:
        seconds = batches[last][0] - batches[first][0]
        return sum(rows for _, rows in batches[first:last]) / seconds if seconds else 0.0

    return between(full[0], full[-1]) if full else 0.0, between(0, len(batches) - 1)


async def _ask(archive: Any, query: str, table: str, tenant: str) -> Any:
    return (await asyncio.to_thread(_query, archive, query, table, tenant)).result_rows[0]


def _query(archive: Any, query: str, table: str, tenant: str) -> Any:
    return archive.query(query, parameters={"table": table, "tenant": tenant})


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


def _result(ours: list[Side], bare: list[Side], plain: list[Side], count: int) -> Result:
    def each(sides: list[Side], used: str) -> str:
        return f"{median(getattr(side, used) for side in sides) / count * 1e6:.1f} µs"

    mine, same, one = ([side.rate for side in sides] for sides in (ours, bare, plain))
    ratio = median(mine) / median(one)
    verdict = "met" if ratio >= PLAIN_TARGET else "missed"
    return Result(
        leg="record",
        unit="rows/s",
        ours=median(mine),
        bare=median(same),
        target=TARGET,
        notes=[
            rounds_of(mine, same, "rows/s"),
            f"into one plain table {', '.join(f'{rate:,.0f}' for rate in one)}",
            f"ratio to one plain table {ratio:.2f}, target ≥ {PLAIN_TARGET:g} {verdict}",
            f"ours with the start and the last wait {median(side.overall for side in ours):,.0f} rows/s",
            f"{count:,} rows a round, {median(side.batch for side in ours):,.0f} an insert of ours",
            f"CPU a row of the recorder, its start included: {each(ours, 'client_cpu')}",
            f"CPU a row of the archive: {each(ours, 'archive_cpu')}, under bare {each(bare, 'archive_cpu')}",
            f"CPU a row of one plain table: {each(plain, 'archive_cpu')}",
        ],
    )
