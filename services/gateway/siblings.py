"""The processes of one gateway, as one of them sees the others: asked for their readiness and their metrics.

Each answers as every service does (`shared.health`), on a socket of this machine's own that was made before it.
"""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Mapping
from dataclasses import dataclass

from shared import metrics
from shared.errors import Transient
from shared.metric_sums import added_up

SECONDS = 1.5
HOST = "127.0.0.1"


def listeners(names: list[str]) -> dict[str, socket.socket]:
    """A socket for each process to be asked at. Raises OSError."""
    made = {}
    for name in names:
        made[name] = socket.socket(socket.AF_INET, socket.SOCK_STREAM, socket.IPPROTO_TCP)
        made[name].bind((HOST, 0))
        # At once, so that whoever asks while the process starts waits for it.
        made[name].listen()
    return made


@dataclass(frozen=True, slots=True)
class Siblings:
    """The other processes of this gateway: their ports by name."""

    ports: Mapping[str, int]

    async def check(self) -> None:
        """Raises Transient (`process_unready`) that names a process which cannot do its work now, and why."""
        answers = await asyncio.gather(*(_get(port, "/readyz") for port in self.ports.values()))
        for name, (status, body) in zip(self.ports, answers, strict=True):
            if status != 200:
                words = body.decode("utf-8", "replace") or "no answer"
                raise Transient("process_unready", f"{name}: {words}")

    async def metrics(self) -> bytes:
        """This process's and theirs, added up; one that does not answer is left out."""
        answers = await asyncio.gather(*(_get(port, "/metrics") for port in self.ports.values()))
        return added_up([metrics.render(), *(body for status, body in answers if status == 200)])


async def _get(port: int, path: str) -> tuple[int, bytes]:
    """Status and body; (0, b"") without an answer in time."""
    try:
        async with asyncio.timeout(SECONDS):
            reader, writer = await asyncio.open_connection(HOST, port)
            try:
                writer.write(f"GET {path} HTTP/1.0\r\n\r\n".encode())
                head, _, body = (await reader.read()).partition(b"\r\n\r\n")
                return int(head.split(b" ", 2)[1]), body
            finally:
                writer.close()
    except (OSError, TimeoutError, IndexError, ValueError):
        return 0, b""
