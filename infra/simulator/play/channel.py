"""The listeners of a thread, and what each has not read yet.

A record is built once and shared by all listeners. Nothing is replayed: a listener gets what is
published after it joined. A listener that does not read is cut off, never waited for.
"""

from __future__ import annotations

import asyncio
from collections import deque

MAX_BACKLOG = 100_000  # records; far beyond a burst, so only a reader that stopped gets there


def record(data: bytes) -> bytes:
    """One server-sent record. The provider names every record `message`, whatever its type."""
    return b"event: message\ndata: " + data + b"\n\n"


class Listener:
    """One open stream. `previews` are the event types it wants to see being written."""

    def __init__(self, previews: frozenset[str]) -> None:
        self.previews = previews
        self.overflowed = False
        self._backlog: deque[bytes] = deque()
        self._closed = False
        self._ready = asyncio.Event()

    def push(self, item: bytes) -> None:
        if len(self._backlog) >= MAX_BACKLOG:
            self.overflowed = True
            self.close()
        if not self._closed:
            self._backlog.append(item)
            self._ready.set()

    def close(self) -> None:
        """Ends the stream after what is already queued; further records are dropped."""
        self._closed = True
        self._ready.set()

    async def next(self, timeout: float) -> bytes | None:
        """All queued records as one chunk, waiting up to `timeout` seconds for the first.

        Raises TimeoutError when nothing came; None when the stream is over.
        """
        if not self._ready.is_set():
            async with asyncio.timeout(timeout):
                await self._ready.wait()
        if not self._backlog:
            return None
        chunk = b"".join(self._backlog)
        self._backlog.clear()
        if not self._closed:
            self._ready.clear()
        return chunk


class Channel:
    """The listeners of one thread."""

    def __init__(self) -> None:
        self.listeners: set[Listener] = set()
        self._held: list[tuple[int, bytes]] = []

    def publish(self, data: bytes, *, hold: int = 0) -> None:
        """Sends one event to all listeners, behind the next `hold` events that come.

        Holding makes stream order differ from list order.
        """
        if not self.listeners:
            self._held.clear()
            return
        if hold:
            self._held.append((hold, record(data)))
            return
        due = [item for left, item in self._held if left == 1]
        self._held = [(left - 1, item) for left, item in self._held if left > 1]
        item = b"".join((record(data), *due))
        for listener in tuple(self.listeners):
            listener.push(item)

    def preview(self, kind: str, data: bytes) -> None:
        """Sends a preview to the listeners that asked for previews of the event type `kind`."""
        for listener in tuple(self.listeners):
            if kind in listener.previews:
                listener.push(record(data))

    def wants(self, kind: str) -> bool:
        return any(kind in listener.previews for listener in self.listeners)

    def close(self) -> None:
        """Ends all streams of the thread cleanly."""
        for listener in tuple(self.listeners):
            listener.close()
