"""Server-sent events: how a record is written, and a response that ends when anybody leaves.

Format: WHATWG HTML, "Server-sent events", section 9.2.6.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

from starlette.responses import Response
from starlette.types import Receive, Scope, Send

COMMENT = b": still here\n\n"


def one_line(json: bytes) -> bytes:
    """The same JSON without line breaks: between JSON's tokens they are white space, inside strings
    they can't occur."""
    if b"\n" in json or b"\r" in json:
        return json.replace(b"\r", b" ").replace(b"\n", b" ")
    return json


def message(event: str, data: bytes, seq: int | None = None) -> bytes:
    """One record; with a `seq` the client's Last-Event-ID moves to it."""
    name = one_line(event.encode())
    if seq is None:
        return b"event: %b\ndata: %b\n\n" % (name, one_line(data))
    return b"id: %d\nevent: %b\ndata: %b\n\n" % (seq, name, one_line(data))


class Stream(Response):
    """Sends chunks until they end, the client hangs up or `closing` is set.

    The chunks' iterator is closed in every case, before the response returns.
    """

    media_type = "text/event-stream"

    def __init__(self, chunks: AsyncIterator[bytes], closing: asyncio.Event) -> None:
        headers = {"Cache-Control": "no-store", "X-Accel-Buffering": "no"}
        super().__init__(b"", headers=headers)
        del self.headers["content-length"]
        self._chunks = chunks
        self._closing = closing

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        sending = asyncio.create_task(self._send(send))
        others = [asyncio.create_task(_hung_up(receive)), asyncio.create_task(self._closing.wait())]
        try:
            await asyncio.wait([sending, *others], return_when=asyncio.FIRST_COMPLETED)
            ended = sending.done()
        finally:
            for task in (sending, *others):
                task.cancel()
            await asyncio.gather(sending, *others, return_exceptions=True)
            await self._close()
        if ended:
            sending.result()
        elif self._closing.is_set():
            await send({"type": "http.response.body", "body": b"", "more_body": False})

    async def _send(self, send: Send) -> None:
        start = {"status": self.status_code, "headers": self.raw_headers}
        await send({"type": "http.response.start", **start})
        async for chunk in self._chunks:
            await send({"type": "http.response.body", "body": chunk, "more_body": True})
        await send({"type": "http.response.body", "body": b"", "more_body": False})

    async def _close(self) -> None:
        close = getattr(self._chunks, "aclose", None)
        if close is not None:
            await close()


async def _hung_up(receive: Receive) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass
