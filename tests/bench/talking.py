"""Clients of the gateway, each with a session of its own: post a turn, listen to its end, post the next.

A program: order `{url, headers, run, sessions, turns, text}`; answer `{turns, seconds, p50_ms, p99_ms, cpu_seconds,
busy, cut}`. `busy` counts the answers 503, after which a client asks again; `cut` the streams that ended or were
refused while a turn ran, which it opens anew. Nothing of what is heard is kept but the ends of turns.
"""

from __future__ import annotations

import asyncio
import time
from collections import Counter
from typing import Any
from urllib.parse import urlsplit

import uvloop

from tests.bench.child import ChildError, answer, order
from tests.bench.figures import spread_ms
from tests.bench.wire import Refused, Wire

TURN_S = 60.0
AGAIN_S = 0.1
END = b"event: turn.completed\n"
LAST = b"\r\n0\r\n\r\n"  # the chunk that ends an answer


class Cut(Exception):
    """The stream was refused, or is over."""


class Listener:
    """One stream of a session's events, from its first on."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader, self._writer = reader, writer
        self._ends = 0
        self._rest = b""

    @classmethod
    async def open(cls, told: dict[str, Any], path: str) -> Listener:
        """Ask for the stream. Raises Cut when the answer is not 200."""
        target = urlsplit(told["url"])
        reader, writer = await asyncio.open_connection(target.hostname, target.port)
        headers = {**told["headers"], "host": target.netloc, "accept": "text/event-stream"}
        lines = [f"GET {path} HTTP/1.1", *(f"{name}: {value}" for name, value in headers.items())]
        writer.write("\r\n".join(lines).encode() + b"\r\n\r\n")
        head = await reader.readuntil(b"\r\n\r\n")
        if not head.startswith(b"HTTP/1.1 200 "):
            writer.close()
            raise Cut(head.split(b"\r\n", 1)[0].decode())
        return cls(reader, writer)

    async def until(self, turns: int) -> None:
        """Return once that many turns of the session have completed. Raises Cut."""
        while self._ends < turns:
            piece = await self._reader.read(65_536)
            seen = self._rest + piece
            self._ends += seen.count(END)
            # The beginning of a mark whose rest comes with the next piece.
            self._rest = seen[max(0, len(seen) - len(END) + 1) :]
            if self._ends < turns and (not piece or seen.endswith(LAST)):
                raise Cut("the stream is over")

    def close(self) -> None:
        self._writer.close()


class Talk:
    """One session and its client."""

    def __init__(self, told: dict[str, Any], number: int, counts: Counter[str]) -> None:
        self._told = told
        self._wire = Wire(told["url"], told["headers"])
        self._session = f"talk-{told['run']}-{number}"
        self._counts = counts
        self._listener: Listener | None = None

    async def run(self) -> list[float]:
        """The seconds of each turn, from its POST until its end is heard."""
        body = {"user_id": "bench", "session_id": self._session}
        await self._post("/v1/sessions", body)
        seconds = []
        for number in range(self._told["turns"]):
            began = time.perf_counter()
            turn = {"turn_id": f"turn-{number}", "content": f"{self._told['text']} {number}"}
            async with asyncio.timeout(TURN_S):
                if self._listener is None:
                    await self._listen()
                await self._post(f"/v1/sessions/{self._session}/turns", turn)
                await self._until(number + 1)
            seconds.append(time.perf_counter() - began)
        await self._wire.close()
        if self._listener is not None:
            self._listener.close()
        return seconds

    async def _post(self, path: str, body: dict[str, str]) -> None:
        """Both ids are ours: asking again does nothing twice."""
        while True:
            try:
                await self._wire.call("POST", path, body)
            except Refused as refused:
                if refused.status != 503:
                    raise
                self._counts["busy"] += 1
                await asyncio.sleep(AGAIN_S)
            else:
                return

    async def _listen(self) -> None:
        path = f"/v1/sessions/{self._session}/events"
        while True:
            try:
                self._listener = await Listener.open(self._told, path)
            except (Cut, OSError, asyncio.IncompleteReadError):
                self._counts["cut"] += 1
                await asyncio.sleep(AGAIN_S)
            else:
                return

    async def _until(self, turns: int) -> None:
        while True:
            assert self._listener is not None
            try:
                return await self._listener.until(turns)
            except (Cut, OSError):
                self._counts["cut"] += 1
                self._listener.close()
                await self._listen()


async def play(told: dict[str, Any]) -> dict[str, Any]:
    """All clients at once."""
    counts: Counter[str] = Counter()
    cpu, began = time.process_time(), time.perf_counter()
    talks = [Talk(told, number, counts) for number in range(told["sessions"])]
    try:
        each = await asyncio.gather(*(talk.run() for talk in talks))
    except TimeoutError:
        raise ChildError(f"a turn had no end within {TURN_S:.0f} s: {dict(counts)}") from None
    seconds = time.perf_counter() - began
    samples = [sample for one in each for sample in one]
    p50, p99 = spread_ms(samples)
    return {
        "turns": len(samples),
        "seconds": seconds,
        "p50_ms": p50,
        "p99_ms": p99,
        "cpu_seconds": time.process_time() - cpu,
        "busy": counts["busy"],
        "cut": counts["cut"],
    }


if __name__ == "__main__":
    answer(uvloop.run(play(order())))
