"""Many clients that listen to streams, each one connection and nothing more.

A program that is talked to: order `{url, paths, headers}`, one stream for each path; it says `{open}` once all have
brought a byte. Then for each `{expect}` it says, once so many events came over all streams together,
`{seconds, cpu_seconds, p50_ms, p99_ms}`: since the first of them, and how long after it was published an event had
reached all who listen.
"""

from __future__ import annotations

import asyncio
import re
import time
from typing import Any
from urllib.parse import urlsplit

import uvloop

from tests.bench.child import answer, asked
from tests.bench.figures import spread_ms

# So many connections are being made at once.
AT_ONCE = 64
EVENT = b"\nevent: "
SENT = re.compile(rb'"sent":(\d+)')
TIMEOUT_S = 120.0


class Heard:
    """What all streams together brought since the last question."""

    def __init__(self) -> None:
        self.begin(0)

    def begin(self, expected: int) -> None:
        """Count anew, up to `expected` events."""
        self.count, self.expected = 0, expected
        self.first = self.last = 0.0
        self.reached: dict[bytes, float] = {}
        self.all = asyncio.Event()

    def hear(self, count: int, sent: list[bytes]) -> None:
        """So many events came just now; `sent` says when they were published."""
        self.last = time.monotonic()
        self.first = self.first or self.last
        self.count += count
        for moment in sent:
            self.reached[moment] = self.last
        if self.count >= self.expected:
            self.all.set()

    def told(self) -> dict[str, float]:
        """The answer to the question."""
        waits = [at - int(moment) / 1e9 for moment, at in self.reached.items()]
        p50, p99 = spread_ms(waits)
        return {"seconds": self.last - self.first, "p50_ms": p50, "p99_ms": p99}


class Listener(asyncio.Protocol):
    """One stream."""

    def __init__(self, request: bytes, heard: Heard) -> None:
        self._request = request
        self._heard = heard
        self._tail = b""
        self.began: asyncio.Future[None] = asyncio.get_running_loop().create_future()

    def connection_made(self, transport: Any) -> None:
        transport.write(self._request)

    def data_received(self, data: bytes) -> None:
        if not self.began.done():
            if not data.startswith(b"HTTP/1.1 200"):
                raise SystemExit(f"a stream began with {data[:300]!r}")
            self.began.set_result(None)
        seen = self._tail + data
        if count := seen.count(EVENT):
            self._heard.hear(count, SENT.findall(data))
        # The beginning of a mark whose rest comes with the next piece.
        self._tail = seen[1 - len(EVENT) :]

    def connection_lost(self, exc: Exception | None) -> None:
        raise SystemExit("a stream ended")


async def _listen(told: dict[str, Any], heard: Heard) -> None:
    target = urlsplit(told["url"])
    lines = [f"host: {target.netloc}", *(f"{k}: {v}" for k, v in told["headers"].items())]
    turns = asyncio.Semaphore(AT_ONCE)

    async def open_one(path: str) -> None:
        request = f"GET {path} HTTP/1.1\r\n" + "\r\n".join(lines) + "\r\n\r\n"
        async with turns:
            _, listener = await asyncio.get_running_loop().create_connection(
                lambda: Listener(request.encode(), heard), target.hostname, target.port
            )
            await listener.began

    await asyncio.gather(*(open_one(path) for path in told["paths"]))


async def _main() -> None:
    told, heard = await asked(), Heard()
    assert told is not None
    await _listen(told, heard)
    answer({"open": len(told["paths"])})
    while question := await asked():
        heard.begin(question["expect"])
        cpu = time.process_time()
        answer({"listening": True})
        async with asyncio.timeout(TIMEOUT_S):
            await heard.all.wait()
        answer({**heard.told(), "cpu_seconds": time.process_time() - cpu})


if __name__ == "__main__":
    uvloop.run(_main())
