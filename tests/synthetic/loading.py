"""Brings the events into ClickHouse as the recorder does: JSON lines over HTTP under the same settings."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from typing import Any

import clickhouse_connect

from shared.archive_insert import SETTINGS, TABLE
from tests.synthetic.copies import Plan, sessions

BATCH = 50_000
SAY_EVERY_S = 5.0
INSERT_TIMEOUT_S = 600


def batches(plan: Plan, size: int = BATCH) -> Iterator[tuple[bytes, int]]:
    """The events in bodies of about `size` rows, whole sessions each, and how many rows each has."""
    held: list[bytes] = []
    rows = 0
    for text, count in sessions(plan):
        held.append(text)
        rows += count
        if rows >= size:
            yield b"".join(held), rows
            held, rows = [], 0
    if rows:
        yield b"".join(held), rows


def connect(url: str) -> Any:
    """A client of `http://user:password@host:port/database` that waits long for an insert."""
    make: Any = clickhouse_connect.get_client
    return make(
        dsn=url,
        autogenerate_session_id=False,
        connect_timeout=10,
        send_receive_timeout=INSERT_TIMEOUT_S,
    )


def load(url: str, plan: Plan, size: int, say: Callable[[str], None]) -> float:
    """Insert the events of `plan` into the migrated database of `url`; how many seconds the inserts took.

    May be repeated: a row that is there replaces itself.
    """
    client = connect(url)
    done, inserting = 0, 0.0
    said = time.monotonic()
    for body, rows in batches(plan, size):
        began = time.perf_counter()
        insert(client, body, "JSONEachRow")
        inserting += time.perf_counter() - began
        done += rows
        if time.monotonic() - said > SAY_EVERY_S:
            said = time.monotonic()
            say(f"{done:,} of {plan.events:,} rows, {done / inserting:,.0f} rows/s")
    client.close()
    say(f"{done:,} rows in {inserting:.1f} s of inserting: {done / inserting:,.0f} rows/s")
    return inserting


def insert(client: Any, body: bytes, form: str, table: str = TABLE) -> None:
    """One insert, answered when the rows are there."""
    client.raw_insert(table, insert_block=body, fmt=form, settings=dict(SETTINGS))
