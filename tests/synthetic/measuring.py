"""`python -m tests.synthetic.measuring`: what events cost in ClickHouse, to insert, to keep and to read.

Runs an embedded server of its own on a folder, which it keeps: a second run finds the events and only reads.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from statistics import median
from typing import Any

from infra.clickhouse.migrate import migrate
from tests.synthetic.copies import Plan
from tests.synthetic.loading import BATCH, batches, connect, insert, load
from tests.synthetic.questions import questions
from tests.synthetic.reading import READS, spelled

ROUNDS = 5
START_S = 60.0
LONG_S = 3.0
_NATIVE = "SELECT * FROM session_events FORMAT Native"
_BARE = (
    "CREATE TABLE bare AS session_events ENGINE = MergeTree ORDER BY (tenant_id, session_id, seq)"
)
_SIZE = """
SELECT table, sum(rows), sum(bytes_on_disk), sum(data_uncompressed_bytes) FROM system.parts
WHERE active AND database = {database:String} GROUP BY table HAVING sum(rows) > 0 ORDER BY 3 DESC
"""
Say = Callable[[str], None]


def main(arguments: Sequence[str] | None = None) -> int:
    """Prints tables in Markdown."""
    asked = _parser().parse_args(arguments)
    plan = Plan(asked.events, asked.seed)
    _say(f"{os.cpu_count()} cores, load before {_load()}")
    with _server(asked.path) as base:
        url = f"{base}/turnstile"
        if "insert" in asked.part:
            _print(inserting(base, plan, asked.rounds))
        migrate(url, say=_say)
        client = connect(url)
        if client.command("SELECT count() FROM session_events") < plan.events:
            _print(loading(client, url, plan, asked.batch))
        _print(kept(client))
        if "views" in asked.part:
            _print(reading(client, asked.rounds))
        if "questions" in asked.part:
            _print(answering(client, asked.rounds))
    _say(f"load after {_load()}")
    return 0


def inserting(base: str, plan: Plan, rounds: int) -> Iterator[str]:
    """Rows a second as the recorder inserts them, against the same rows ready, in turns, each into new tables."""
    rates: dict[str, list[float]] = {}
    sample = list(_some(batches(plan), rounds))
    for number in range(rounds):
        name = f"inserting_{number}"
        client = _fresh(base, name)
        body, rows = sample[number]
        ours = _seconds(lambda: insert(client, body, "JSONEachRow"))  # noqa: B023
        ready = client.raw_query(_NATIVE)
        other = _fresh(base, f"{name}_ready")
        other.command(_BARE)
        ready_s = _seconds(lambda: insert(other, ready, "Native"))  # noqa: B023
        bare_s = _seconds(lambda: insert(other, ready, "Native", "bare"))  # noqa: B023
        for side, seconds in (("ours", ours), ("ready", ready_s), ("bare", bare_s)):
            rates.setdefault(side, []).append(rows / seconds)
        for made in (name, f"{name}_ready"):
            other.command(f"DROP DATABASE {made} SYNC")
    middle = {side: median(values) for side, values in rates.items()}
    yield f"Inserting {rounds} times {BATCH:,} rows, load {_load()}:\n"
    yield "| rows | rows/s | of ready rows |\n| --- | --- | --- |"
    for side, words in _SIDES.items():
        yield f"| {words} | {middle[side]:,.0f} | {middle[side] / middle['ready']:.2f} |"


_SIDES = {
    "ours": "JSON lines as the recorder sends them, all tables filled",
    "ready": "the same rows ready (Native), all tables filled",
    "bare": "the same rows ready, into one plain table",
}


def loading(client: Any, url: str, plan: Plan, batch: int) -> Iterator[str]:
    """All events."""
    before, began = _load(), time.perf_counter()
    seconds = load(url, plan, batch, _say)
    whole = time.perf_counter() - began
    yield f"\n{plan.events:,} events in {whole:.0f} s, of which {seconds:.0f} s inserting: "
    yield f"{plan.events / seconds:,.0f} rows/s (batches of {batch:,}, load before {before}, after {_load()})"


def kept(client: Any) -> Iterator[str]:
    """Bytes on disk by table."""
    rows = client.query(_SIZE, parameters={"database": "turnstile"}).result_rows
    events = next(count for table, count, *_ in rows if table == "session_events")
    yield "\n| table | rows | on disk | bytes an event | compressed to |\n| --- | --- | --- | --- | --- |"
    for table, count, disk, raw in rows:
        yield f"| `{table}` | {count:,} | {disk / 1e6:,.0f} MB | {disk / events:.1f} | {disk / raw:.2f} |"
    whole = sum(row[2] for row in rows)
    yield f"| all | | {whole / 1e6:,.0f} MB | {whole / events:.1f} | |"


def reading(client: Any, rounds: int) -> Iterator[str]:
    """The ways to read without repeats, for some questions."""
    yield f"\nload {_load()}\n"
    yield "| question | raw | `FINAL` (`events`) | `LIMIT 1 BY` | `argMax` |\n| --- | --- | --- | --- | --- |"
    for words, question in READS.items():
        times = [_timed(client, sql, rounds) for sql in spelled(question)]
        yield f"| {words} | " + " | ".join(f"{s * 1e3:,.0f} ms" for s in times) + " |"


def answering(client: Any, rounds: int) -> Iterator[str]:
    """The questions of docs/analysts.md."""
    last = client.command("SELECT toString(max(at)) FROM session_events")
    session = client.command("SELECT any(session_id) FROM session_events WHERE tenant_id = 'acme'")
    yield f"\nload {_load()}\n\n| question | rows | fastest | median | slowest |\n| --- | --- | --- | --- | --- |"
    for words, sql in questions():
        sql = sql.replace("now()", f"toDateTime('{last[:19]}', 'UTC')").replace("ses_1", session)
        took = []
        for _ in range(rounds):
            began = time.perf_counter()
            rows = len(client.query(sql).result_rows)
            took.append(time.perf_counter() - began)
        times = " | ".join(f"{of(took) * 1e3:,.0f} ms" for of in (min, median, max))
        yield f"| {words} | {rows:,} | {times} |"


def _timed(client: Any, sql: str, rounds: int) -> float:
    """The median; of what takes long, the only one."""
    first = _seconds(lambda: client.query(sql))
    if first > LONG_S:
        return first
    return median(_seconds(lambda: client.query(sql)) for _ in range(rounds))


def _seconds(work: Callable[[], object]) -> float:
    began = time.perf_counter()
    work()
    return time.perf_counter() - began


def _some(bodies: Iterator[tuple[bytes, int]], count: int) -> Iterator[tuple[bytes, int]]:
    for _, body in zip(range(count), bodies, strict=False):
        yield body


def _fresh(base: str, name: str) -> Any:
    migrate(f"{base}/{name}", say=lambda step: None)
    return connect(f"{base}/{name}")


@contextmanager
def _server(path: Path) -> Iterator[str]:
    """The server as `make up` runs it, on a free port: its address without database."""
    command = [sys.executable, "-m", "infra.clickhouse.server", "--port", "0", "--path", str(path)]
    process = subprocess.Popen([*command, "--max-execution-time", "3600"], stdout=subprocess.PIPE)
    try:
        assert process.stdout is not None
        ready = process.stdout.readline().decode()
        if not ready.startswith("ready "):
            raise SystemExit(f"the server did not start: {ready or 'see above'}")
        yield "http://default:@" + ready.split()[1].removeprefix("clickhouse=http://")
    finally:
        process.terminate()
        process.wait(START_S)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m tests.synthetic.measuring", description=__doc__
    )
    add = parser.add_argument
    add("--path", type=Path, required=True, help="folder of the server's data; kept")
    add("--events", type=int, default=10_000_000, help="how many (10,000,000)")
    add("--seed", type=int, default=1, help="which (%(default)s)")
    add("--batch", type=int, default=BATCH, help="rows an insert (%(default)s)")
    add("--rounds", type=int, default=ROUNDS, help="of each measurement (%(default)s)")
    add("--part", nargs="*", default=["insert", "views", "questions"],
        help="what to measure besides loading: insert, views, questions (all)")  # fmt: skip
    return parser


def _load() -> str:
    return " ".join(f"{value:.1f}" for value in os.getloadavg())


def _print(lines: Iterator[str]) -> None:
    for line in lines:
        sys.stdout.write(f"{line}\n")
        sys.stdout.flush()


def _say(text: str) -> None:
    sys.stderr.write(f"{text}\n")
    sys.stderr.flush()


if __name__ == "__main__":
    sys.exit(main())
