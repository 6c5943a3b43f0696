"""The bound in bytes on events that wait in this worker, over all its sessions; beyond it streams are not read
on.

Each session has a line of its own, bounded by the number of events; two thousand full ones would be gigabytes.
"""

from __future__ import annotations

import asyncio
from collections import deque

from shared import metrics
from shared.session.inputs import ProviderEvent

MAX_QUEUED = 1_024
WAITING_BYTES = 256 * 1024 * 1024


class Room:
    """Shared by the feeds of a worker; one event loop owns it."""

    def __init__(self, limit: int = WAITING_BYTES) -> None:
        self._limit = limit
        self._taken = 0
        self._waiting: deque[tuple[int, asyncio.Future[None]]] = deque()

    @property
    def taken(self) -> int:
        """Bytes that wait now."""
        return self._taken

    async def enter(self, size: int, *, held: int) -> None:
        """Wait until there is room for `size` bytes more, first come first served. Who holds nothing need not wait:
        every session gets on, whatever the others hold."""
        if held and (self._waiting or self._taken + size > self._limit):
            turn: asyncio.Future[None] = asyncio.get_running_loop().create_future()
            self._waiting.append((size, turn))
            try:
                await turn
            except asyncio.CancelledError:
                if turn.done() and not turn.cancelled():
                    self.leave(size)
                raise
        else:
            self._take(size)

    def leave(self, size: int) -> None:
        """So many bytes wait no more."""
        self._take(-size)
        while self._waiting:
            wanted, turn = self._waiting[0]
            if turn.cancelled():
                self._waiting.popleft()
                continue
            # One that is larger than all the room has it alone.
            if self._taken and self._taken + wanted > self._limit:
                return
            self._waiting.popleft()
            self._take(wanted)
            turn.set_result(None)

    def _take(self, size: int) -> None:
        self._taken += size
        metrics.set_gauge("turnstile_events_waiting_bytes", self._taken)


class Line:
    """One session's events between its streams and its shell, in order."""

    def __init__(self, room: Room) -> None:
        self._room = room
        self._queue: asyncio.Queue[ProviderEvent] = asyncio.Queue(MAX_QUEUED)
        # Bytes of all that is not done with, and of those given on.
        self._held = self._given = 0

    async def put(self, event: ProviderEvent) -> None:
        """Add an event, when there is room."""
        size = len(event.raw)
        await self._room.enter(size, held=self._held)
        self._held += size
        await self._queue.put(event)

    def empty(self) -> bool:
        return self._queue.empty()

    async def get(self) -> ProviderEvent:
        """The next event, once there is one."""
        return self._out(await self._queue.get())

    def get_nowait(self) -> ProviderEvent:
        """The next event of those that are there."""
        return self._out(self._queue.get_nowait())

    def more(self, most: int) -> list[ProviderEvent]:
        """Up to so many events of those that are there."""
        return [self.get_nowait() for _ in range(min(most, self._queue.qsize()))]

    def done(self) -> None:
        """What was given on waits no more."""
        given, self._given = self._given, 0
        self._held -= given
        self._room.leave(given)

    def close(self) -> None:
        """Nothing waits any more."""
        held, self._held = self._held, 0
        self._given = 0
        self._room.leave(held)

    def _out(self, event: ProviderEvent) -> ProviderEvent:
        self._given += len(event.raw)
        return event
