"""Counts the requests a server takes: keep-alive connections, one request under way on each.

A program: order `{url, paths: [one a connection], headers, body, seconds, expect}`, answer
`{count, errors, seconds, p50_ms, p99_ms, cpu_seconds}`. Raw HTTP/1.1, so that it costs little
beside what it measures.
"""

from __future__ import annotations

import asyncio
import time
from functools import partial
from typing import Any, cast
from urllib.parse import urlsplit

import uvloop

from tests.bench.child import answer, order
from tests.bench.figures import spread_ms

GRACE_S = 15.0
_END = b"\r\n\r\n"
_LENGTH = b"content-length:"


class Connection(asyncio.Protocol):
    """Sends the same request again and again until the deadline, then sets `done`."""

    def __init__(self, request: bytes, expect: bytes, deadline: float) -> None:
        self.seconds: list[float] = []
        self.errors: list[str] = []
        self.done = asyncio.get_running_loop().create_future()
        self._request = request
        self._status = b"HTTP/1.1 " + expect
        self._deadline = deadline
        self._buffer = b""
        self._began = 0.0
        self._transport: asyncio.Transport

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)  # uvloop's is no subclass
        self._send()

    def data_received(self, data: bytes) -> None:
        """Note how long the answer took once it is whole, and ask again; a status not wanted is an error."""
        self._buffer = self._buffer + data if self._buffer else data
        size = answer_size(self._buffer)
        if size is None or len(self._buffer) < size:
            return
        self.seconds.append(time.perf_counter() - self._began)
        if not self._buffer.startswith(self._status):
            self.errors.append(self._buffer[:200].decode("latin-1"))
        self._buffer = b""
        self._send()

    def connection_lost(self, error: Exception | None) -> None:
        if not self.done.done():
            self.errors.append(f"connection lost: {error}")
            self.done.set_result(None)

    def _send(self) -> None:
        self._began = time.perf_counter()
        if self._began < self._deadline:
            self._transport.write(self._request)
        elif not self.done.done():
            self.done.set_result(None)
            self._transport.close()


def answer_size(buffer: bytes) -> int | None:
    """Bytes of the whole answer that starts the buffer; None while its head is incomplete."""
    end = buffer.find(_END)
    if end < 0:
        return None
    head = buffer[:end].lower()
    place = head.find(_LENGTH)
    length = 0 if place < 0 else int(head[place + len(_LENGTH) :].split(b"\r\n", 1)[0])
    return end + len(_END) + length


def request_bytes(path: str, host: str, headers: dict[str, str], body: bytes) -> bytes:
    """A whole POST."""
    lines = [f"POST {path} HTTP/1.1", f"host: {host}", f"content-length: {len(body)}"]
    lines += [f"{name}: {value}" for name, value in headers.items()]
    return "\r\n".join(lines).encode() + _END + body


def _given(connection: Connection) -> Connection:
    return connection


async def press(told: dict[str, Any]) -> dict[str, Any]:
    """Run the order; see the module."""
    target = urlsplit(told["url"])
    loop, body = asyncio.get_running_loop(), told["body"].encode()
    began = time.perf_counter()
    made = []
    for path in told["paths"]:
        request = request_bytes(path, target.netloc, told["headers"], body)
        connection = Connection(request, told["expect"].encode(), began + told["seconds"])
        await loop.create_connection(partial(_given, connection), target.hostname, target.port)
        made.append(connection)
    await asyncio.wait_for(asyncio.gather(*(c.done for c in made)), told["seconds"] + GRACE_S)
    seconds = time.perf_counter() - began
    samples = [sample for connection in made for sample in connection.seconds]
    errors = [error for connection in made for error in connection.errors]
    p50, p99 = spread_ms(samples)
    return {
        "count": len(samples) - len(errors),
        "errors": errors[:3],
        "seconds": seconds,
        "p50_ms": p50,
        "p99_ms": p99,
        "cpu_seconds": time.process_time(),
    }


if __name__ == "__main__":
    answer(uvloop.run(press(order())))
