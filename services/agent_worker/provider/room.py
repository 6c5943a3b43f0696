"""The bound in bytes on events that wait in this worker, over all its sessions; beyond it streams are not read
on.

Each session has a line of its own, bounded by the number of events; two thousand full ones would be gigabytes.
"""

from __future__ import annotations

import asyncio
from collections import deque
from typing import NamedTuple

from shared import metrics
from shared.session.inputs import ProviderEvent

MAX_QUEUED = 1_024
WAITING_BYTES = 256 * 1024 * 1024
IDLE = "session.status_idle"


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


class _Waiting(NamedTuple):
    event: ProviderEvent
    since: float
    listed: bool


class Line:
    """One session's events between its streams and its shell. They stay for a moment, so that each thread's leave
    in the order of their times, as the provider lists them, when the wire brought neighbours swapped."""

    def __init__(self, room: Room) -> None:
        self._room = room
        self._waiting: list[_Waiting] = []
        self._came, self._left = asyncio.Event(), asyncio.Event()
        self._end: Exception | None = None
        # Bytes of all that is not done with, and of those given on.
        self._held = self._given = 0

    async def put(self, event: ProviderEvent, *, listed: bool = False) -> None:
        """Add an event, when there is room. `listed`: all that the list has before it was added before."""
        size = len(event.raw)
        await self._room.enter(size, held=self._held)
        self._held += size
        while len(self._waiting) >= MAX_QUEUED:
            self._left.clear()
            await self._left.wait()
        self._waiting.append(_Waiting(event, _now(), listed))
        self._came.set()

    def waiting(self, thread: str | None) -> list[ProviderEvent]:
        """The thread's events that were not given on."""
        return [one.event for one in self._waiting if one.event.thread_id == thread]

    def retract(self, thread: str | None) -> list[ProviderEvent]:
        """Take back the thread's events that were not given on, but those that were listed."""
        stay, events = list[_Waiting](), list[ProviderEvent]()
        for waiting in self._waiting:
            if waiting.event.thread_id == thread and not waiting.listed:
                events.append(waiting.event)
            else:
                stay.append(waiting)
        self._waiting = stay
        size = sum(len(event.raw) for event in events)
        self._held -= size
        self._room.leave(size)
        self._left.set()
        return events

    async def take(self, settle: float, most: int) -> list[ProviderEvent]:
        """The next events, at least one, when the oldest has waited for `settle` seconds or an idle is among them;
        each thread's newest stays for as long, since the one before it may be on its way. After the end none waits,
        and its reason is raised once there are none."""
        while True:
            if self._end is not None:
                return self._rest(most, self._end)
            if not self._waiting:
                self._came.clear()
                await self._came.wait()
            elif (wait := self._wait(settle)) > 0:
                await asyncio.sleep(wait)
            elif ripe := self._ripe(settle):
                return self._out(ripe[:most])
            else:
                await asyncio.sleep(settle / 4)

    def end(self, reason: Exception) -> None:
        """No more will come."""
        self._end = reason
        self._came.set()

    def _rest(self, most: int, reason: Exception) -> list[ProviderEvent]:
        if not self._waiting:
            raise reason
        return self._out(in_order([waiting.event for waiting in self._waiting])[:most])

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

    def _wait(self, settle: float) -> float:
        if any(waiting.event.type == IDLE for waiting in self._waiting):
            return 0.0
        return self._waiting[0].since + settle - _now()

    def _ripe(self, settle: float) -> list[ProviderEvent]:
        ordered = in_order([waiting.event for waiting in self._waiting])
        if any(event.type == IDLE for event in ordered):
            return ordered
        newest = {waiting.event.thread_id: waiting for waiting in self._waiting}
        young = {id(w.event) for w in newest.values() if w.since + settle > _now()}
        ripe, closed = list[ProviderEvent](), set[str | None]()
        for event in ordered:
            if id(event) in young:
                closed.add(event.thread_id)
            if event.thread_id not in closed:
                ripe.append(event)
        return ripe

    def _out(self, events: list[ProviderEvent]) -> list[ProviderEvent]:
        out = {id(event) for event in events}
        self._waiting = [one for one in self._waiting if id(one.event) not in out]
        self._given += sum(len(event.raw) for event in events)
        self._left.set()
        return events


def in_order(batch: list[ProviderEvent]) -> list[ProviderEvent]:
    """The batch with each thread's events in the order of their times; equal times keep their order, and so do
    threads among each other."""
    places: dict[str | None, list[int]] = {}
    for place, event in enumerate(batch):
        places.setdefault(event.thread_id, []).append(place)
    ordered = list(batch)
    for mine in places.values():
        for place, event in zip(mine, sorted((batch[i] for i in mine), key=_at), strict=True):
            ordered[place] = event
    return ordered


def _at(event: ProviderEvent) -> str:
    return event.at


def _now() -> float:
    return asyncio.get_running_loop().time()
