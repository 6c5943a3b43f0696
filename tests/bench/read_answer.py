"""The barest reader of a long HTTP answer: takes what comes, and counts a mark in it when one is given.

A program: order `{url, method, headers, body, mark}`, answer `{marks, bytes, first_seconds, seconds, cpu_seconds}`.
Nothing of the answer is kept. Counting costs more than reading does, so what is timed is read without a mark.
"""

from __future__ import annotations

import http.client
import time
from urllib.parse import urlsplit

from tests.bench.child import answer, order

CHUNK = 256 * 1024
TIMEOUT_S = 300.0


def main() -> None:
    """Read the answer to its end."""
    told = order()
    target, mark = urlsplit(told["url"]), told["mark"].encode()
    connection = http.client.HTTPConnection(target.netloc, timeout=TIMEOUT_S)
    path = f"{target.path}?{target.query}" if target.query else target.path
    cpu, began = time.process_time(), time.perf_counter()
    connection.request(told["method"], path, told["body"].encode(), told["headers"])
    response = connection.getresponse()
    if response.status != 200:
        raise SystemExit(f"{told['url']}: {response.status} {response.read(300)!r}")
    size, marks, first, end = 0, 0, 0.0, b""
    while piece := response.read1(CHUNK):
        first = first or time.perf_counter() - began
        size += len(piece)
        if mark:
            seen = end + piece
            marks += seen.count(mark)
            # The beginning of a mark whose rest comes with the next piece.
            end = seen[max(0, len(seen) - len(mark) + 1) :]
    seconds = time.perf_counter() - began
    cpu = time.process_time() - cpu
    answer(
        {
            "marks": marks,
            "bytes": size,
            "first_seconds": first,
            "seconds": seconds,
            "cpu_seconds": cpu,
        }
    )


if __name__ == "__main__":
    main()
