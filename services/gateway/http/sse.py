"""Streams: how many there may be, and a response that ends when anybody leaves."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import AsyncIterator, Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from services.gateway.http.auth import Caller
from services.gateway.http.connection import TRANSPORT
from shared import logs, metrics
from shared.errors import Transient

# Where a stream lies in its request's scope until it is run.
STREAM = "turnstile.stream"
_log = logs.get("gateway.sse")


class Place:
    """What one stream was given: `age` seconds to last, `stall` seconds to wait for a client that takes nothing."""

    def __init__(self, age: float, stall: float, free: Callable[[], None]) -> None:
        self.age = age
        self.stall = stall
        self._free: Callable[[], None] | None = free

    def give_back(self) -> None:
        """Free the place; a second call does nothing."""
        free, self._free = self._free, None
        if free is not None:
            free()


@dataclass(slots=True)
class Shares:
    """The streams that are open, and how many there may be: in all, of one tenant, of one API key.

    A stream lasts `max_age` seconds at most; then it ends cleanly, and its client resumes. A client may take
    nothing for `stall` seconds while there is something to send. `chance` draws from [0, 1): it spreads the ends of
    streams that began together.
    """

    total: int
    tenant: int
    key: int
    max_age: float
    stall: float
    chance: Callable[[], float]
    _open: int = 0
    _tenants: Counter[str] = field(default_factory=Counter)
    _keys: Counter[bytes] = field(default_factory=Counter)

    @property
    def open(self) -> int:
        """How many streams are open."""
        return self._open

    def take(self, caller: Caller) -> Place:
        """A place for one stream.

        Raises Transient: `too_many_streams` when the gateway is full, `stream_share` when the tenant or the key has
        as many as it may have.
        """
        if self._open >= self.total:
            raise _full("too_many_streams", f"this gateway serves {self.total} streams already")
        if self._tenants[caller.tenant_id] >= self.tenant:
            raise _full("stream_share", f"this tenant has {self.tenant} streams open already")
        if self._keys[caller.digest] >= self.key:
            raise _full("stream_share", f"this API key has {self.key} streams open already")
        self._count(caller, 1)
        age = self.max_age * (1 - 0.1 * self.chance())
        return Place(age, self.stall, lambda: self._count(caller, -1))

    def _count(self, caller: Caller, change: int) -> None:
        self._open += change
        self._tenants[caller.tenant_id] += change
        self._keys[caller.digest] += change
        if not self._tenants[caller.tenant_id]:
            del self._tenants[caller.tenant_id]
        if not self._keys[caller.digest]:
            del self._keys[caller.digest]
        metrics.set_gauge("turnstile_sse_streams", self._open)


def _full(reason: str, words: str) -> Transient:
    return Transient(reason, f"{words}: close one, or try again later", retry_after=5)


class Stream(Response):
    """Sends chunks until they end, the client hangs up or takes nothing any more, `closing` is set, or the stream
    is as old as its place allows.

    The chunks' iterator is closed and the place given back in every case, before `run` returns. The framework calls
    a response while its own layers are there, which a stream would hold all its life and send each piece through.
    So a call only leaves the stream in the scope, and `Front` runs it once they are gone.
    """

    media_type = "text/event-stream"

    def __init__(self, chunks: AsyncIterator[bytes], closing: asyncio.Event, place: Place) -> None:
        headers = {"Cache-Control": "no-store", "X-Accel-Buffering": "no"}
        super().__init__(b"", headers=headers)
        del self.headers["content-length"]
        self._chunks = chunks
        self._closing = closing
        self._place = place
        self._clock = asyncio.get_running_loop().time
        # Since when a piece waits to be taken.
        self._since: float | None = None

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        scope[STREAM] = self

    async def run(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer with the stream, until it is over. Raises what the chunks raise."""
        sending = asyncio.create_task(self._send(send))
        hung_up = asyncio.create_task(_hung_up(receive))
        others = [hung_up, asyncio.create_task(self._closing.wait())]
        try:
            stalled = await self._over([sending, *others], self._place.age)
            ended, gone = sending.done(), hung_up.done()
        finally:
            for task in (sending, *others):
                task.cancel()
            await asyncio.gather(sending, *others, return_exceptions=True)
            await self._close()
            self._place.give_back()
        if ended:
            sending.result()
        elif not gone and not stalled:
            stalled = await self._end(send)
        if stalled:
            metrics.inc("turnstile_sse_stalled_total")
            _log.info("stream_stalled", seconds=self._place.stall)
            if TRANSPORT in scope:
                scope[TRANSPORT].abort()
                await _hung_up(receive)

    async def _over(self, tasks: Sequence[asyncio.Task[Any]], age: float) -> bool:
        """Wait until one of them is done or `age` seconds have passed; true: a client takes nothing any more.

        One clock for all pieces: a timeout for each of them would cost as much as all else of sending it.
        """
        now, stall = self._clock, self._place.stall
        until = now() + age
        while not any(task.done() for task in tasks) and now() < until:
            look = stall if self._since is None else self._since + stall - now()
            if look <= 0:
                return True
            wait = min(look, until - now())
            await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED, timeout=wait)
        return False

    async def _send(self, send: Send) -> None:
        start = {"status": self.status_code, "headers": self.raw_headers}
        await send({"type": "http.response.start", **start})
        async for chunk in self._chunks:
            await self._piece(send, chunk, more=True)
        await self._piece(send, b"", more=False)

    async def _piece(self, send: Send, body: bytes, *, more: bool) -> None:
        self._since = self._clock()
        await send({"type": "http.response.body", "body": body, "more_body": more})
        self._since = None

    async def _end(self, send: Send) -> bool:
        """End the answer; true: the client does not take that either."""
        try:
            async with asyncio.timeout(self._place.stall):
                await self._piece(send, b"", more=False)
        except TimeoutError:
            return True
        return False

    async def _close(self) -> None:
        close = getattr(self._chunks, "aclose", None)
        if close is not None:
            await close()


async def _hung_up(receive: Receive) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass
