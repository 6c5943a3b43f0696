"""An open event stream on the wire.

It opens with the comment `: connected`, carries one record per event, and every 28 seconds the
comment `:keepalive`, between records too. No ids, no replay, no end mark: it ends when either side
closes.
"""

from __future__ import annotations

import asyncio

from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from infra.simulator.play.channel import Channel, Listener

CONNECTED = b": connected\n\n"
KEEPALIVE = b":keepalive\n\n"


class ReaderTooSlow(Exception):
    """The client stopped reading; its connection is dropped without a clean end."""


class EventStream(Response):
    """A response that stays open. `keepalive` in seconds."""

    media_type = "text/event-stream"
    charset = "utf-8"

    def __init__(self, channel: Channel, previews: frozenset[str], keepalive: float) -> None:
        super().__init__(headers={"cache-control": "no-cache"})
        del self.headers["content-length"]
        self._channel = channel
        self._keepalive = keepalive
        # Joined here, before the response starts: a client that has the headers misses nothing.
        self._listener = Listener(previews)
        channel.listeners.add(self._listener)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        watch = asyncio.create_task(self._watch(receive))
        try:
            await send({"type": "http.response.start", "status": 200, "headers": self.raw_headers})
            await send({"type": "http.response.body", "body": CONNECTED, "more_body": True})
            await self._relay(send)
            if self._listener.overflowed:
                raise ReaderTooSlow
            await send({"type": "http.response.body", "body": b"", "more_body": False})
        finally:
            self._channel.listeners.discard(self._listener)
            watch.cancel()

    async def _relay(self, send: Send) -> None:
        loop = asyncio.get_running_loop()
        due = loop.time() + self._keepalive
        while True:
            try:
                chunk = await self._listener.next(max(0.0, due - loop.time()))
            except TimeoutError:
                chunk = b""
            if chunk is None:
                return
            if loop.time() >= due:
                chunk += KEEPALIVE
                due = loop.time() + self._keepalive
            if chunk:
                await send({"type": "http.response.body", "body": chunk, "more_body": True})

    async def _watch(self, receive: Receive) -> None:
        while (await receive())["type"] != "http.disconnect":
            pass
        self._listener.close()
