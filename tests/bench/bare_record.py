"""The barest program that archives events: ready rows, one insert after the other, over HTTP.

A program: order `{url, table, file, batch}` with a file of one JSON row a line; answer
`{rows, seconds, cpu_seconds}`. Batches are made before the clock starts.
"""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import clickhouse_connect

from shared.archive_insert import SETTINGS
from tests.bench.child import answer, order


def main() -> None:
    """Insert the file."""
    told = order()
    lines = Path(told["file"]).read_bytes().splitlines()
    size = told["batch"]
    bodies = [b"\n".join(lines[place : place + size]) for place in range(0, len(lines), size)]
    make: Any = clickhouse_connect.get_client
    client = make(dsn=told["url"], autogenerate_session_id=False, compress=False)
    cpu, began = time.process_time(), time.perf_counter()
    for body in bodies:
        client.raw_insert(
            told["table"], insert_block=body, fmt="JSONEachRow", settings=dict(SETTINGS)
        )
    seconds = time.perf_counter() - began
    cpu = time.process_time() - cpu
    answer({"rows": len(lines), "seconds": seconds, "cpu_seconds": cpu})


if __name__ == "__main__":
    main()
