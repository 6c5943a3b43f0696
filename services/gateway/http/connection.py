"""uvicorn's HTTP connection, with bounds on what comes before a body: its size, its headers, its time.

The parser under it (httptools) has none: it collects a header, and any number of them, for as long as bytes come.
"""

from __future__ import annotations

import asyncio
from http import HTTPStatus
from typing import Any

import httptools
from uvicorn.protocols.http.httptools_impl import (
    STATUS_LINE,
    HttpToolsProtocol,
    RequestResponseCycle,
)

from services.gateway.http.problems import JSON, PROBLEM_JSON, problem_json
from services.gateway.http.request import WHOLE
from shared import metrics
from shared.errors import Rejected

MAX_HEAD_BYTES = 64 * 1024
MAX_HEADERS = 200
# A head that is not whole after so many seconds is given up: whoever sends it byte by byte holds a connection.
HEAD_SECONDS = 20.0
# How long what a refused client still sends is read and thrown away before the connection is closed.
LINGER_SECONDS = 1.0
TRANSPORT = "turnstile.transport"
# In a request's scope: `_Whole.answer`.
ANSWER = "turnstile.answer"
TOO_LARGE = f"the request line and headers may have {MAX_HEAD_BYTES} bytes and {MAX_HEADERS} headers: send less"
TOO_SLOW = f"the request line and headers must be whole within {HEAD_SECONDS:.0f} s"
_WORDS = {400: "invalid_request", 408: "head_timeout", 431: "head_too_large"}


def _head(status: int, headers: list[tuple[bytes, bytes]]) -> bytes:
    """The head of an answer of JSON up to the number of its bytes; `headers` are those of every answer."""
    lines = (b"%b: %b\r\n" % header for header in headers)
    return b"%bcontent-type: %b\r\n%bcontent-length: " % (
        STATUS_LINE[status],
        JSON.encode(),
        b"".join(lines),
    )


class _Heads:
    """`_head` made once for each status, as long as the headers of every answer are the same list: uvicorn makes a
    new one each second, for the date."""

    def __init__(self) -> None:
        self._of: list[tuple[bytes, bytes]] = []
        self._made: dict[int, bytes] = {}

    def get(self, status: int, headers: list[tuple[bytes, bytes]]) -> bytes:
        if headers is not self._of:
            self._of, self._made = headers, {}
        head = self._made.get(status)
        if head is None:
            head = self._made[status] = _head(status, headers)
        return head


_heads = _Heads()


class _Whole:
    """A transport that sends the head of an answer together with its body: one call of the system less for each,
    here and at the client. A head whose body has no length, or never comes, goes at once."""

    __slots__ = ("_cycle", "_head", "_transport")

    def __init__(self, transport: asyncio.Transport, cycle: RequestResponseCycle) -> None:
        self._transport = transport
        self._head = b""
        # Until its answer begins: who knows each other for longer is left to the collector.
        self._cycle: RequestResponseCycle | None = cycle

    def write(self, data: bytes) -> None:
        """The head is kept until what follows it."""
        cycle = self._cycle
        if cycle is not None and cycle.response_started:
            self._cycle = None
            if cycle.expected_content_length and cycle.scope["method"] != "HEAD":
                self._head = data
                return
        if self._head:
            data, self._head = self._head + data, b""
        self._transport.write(data)

    def answer(self, status: int, content: bytes) -> bool:
        """Send a whole answer of JSON at once, which is what two messages of ASGI do at ten times the cost; False
        when it has to go their way: the connection ends with it, or the client is slow to take what was sent."""
        cycle = self._cycle
        if cycle is None or not cycle.keep_alive or cycle.flow.write_paused:
            return False
        self._cycle = None
        if cycle.disconnected:
            return True
        cycle.response_started = cycle.response_complete = True
        head = _heads.get(status, cycle.default_headers)
        self._transport.write(b"%b%d\r\n\r\n%b" % (head, len(content), content))
        cycle.message_event.set()
        cycle.on_response()
        return True

    def is_closing(self) -> bool:
        return self._transport.is_closing()

    def close(self) -> None:
        self._transport.close()


class Connection(HttpToolsProtocol):
    """Refuses a head of more than MAX_HEAD_BYTES or MAX_HEADERS headers with 431, and one that is not whole after
    HEAD_SECONDS with 408; both close the connection. While an earlier request is being answered, a stream for one,
    nothing is written in between: a head that is too large then only closes it, and a late one has more time. The
    transport is in the request's scope under TRANSPORT."""

    _in_head = False
    _head_bytes = 0
    _refusal = 0
    _refused = False
    _patience: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        self._in_head = True
        self._time_head()

    def connection_lost(self, exc: Exception | None) -> None:
        self._end_head()
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        """Hand bytes to the parser; refuses a head of more than MAX_HEAD_BYTES with 431."""
        if self._refused:
            return  # read and thrown away, so that the refusal is not lost to a reset
        if self._in_head:
            self._head_bytes += len(data)
        super().data_received(data)
        if not self._in_head:
            return
        # What one read brings is bounded already; a head that goes on over many is refused here.
        if self._head_bytes > MAX_HEAD_BYTES:
            self._refuse(431)
        elif self._patience is None:
            self._time_head()

    def on_message_begin(self) -> None:
        super().on_message_begin()
        scope: Any = self.scope
        scope[TRANSPORT] = self.transport
        if not self._in_head:
            self._in_head, self._head_bytes = True, 0
        self._parsed_bytes = 0

    def on_url(self, url: bytes) -> None:
        self._parsed_bytes += len(url)
        if self._parsed_bytes > MAX_HEAD_BYTES:
            self._too_large()
        super().on_url(url)

    def on_header(self, name: bytes, value: bytes) -> None:
        self._parsed_bytes += len(name) + len(value) + 4
        if self._parsed_bytes > MAX_HEAD_BYTES or len(self.headers) >= MAX_HEADERS:
            self._too_large()
        super().on_header(name, value)

    def on_headers_complete(self) -> None:
        self._end_head()
        before = self.cycle
        super().on_headers_complete()
        if self.cycle is not before:
            whole: Any = _Whole(self.transport, self.cycle)
            self.cycle.transport = whole
            scope: Any = self.scope
            scope[ANSWER] = whole.answer

    def on_message_complete(self) -> None:
        scope: Any = self.scope
        scope[WHOLE] = True
        super().on_message_complete()

    def send_400_response(self, msg: str) -> None:
        """The answer to what the parser gave up: 431 when it was told to."""
        self._refuse(self._refusal or 400, msg)

    def _too_large(self) -> None:
        self._refusal = 431
        raise httptools.HttpParserError(TOO_LARGE)

    def _time_head(self) -> None:
        self._patience = asyncio.get_running_loop().call_later(HEAD_SECONDS, self._late)

    def _end_head(self) -> None:
        self._in_head = False
        if self._patience is not None:
            self._patience.cancel()
            self._patience = None

    def _late(self) -> None:
        if self._in_head and self._answering:
            self._time_head()
        elif self._in_head:
            self._refuse(408)

    @property
    def _answering(self) -> bool:
        return self.cycle is not None and not self.cycle.response_complete

    def _refuse(self, status: int, words: str = "") -> None:
        self._end_head()
        if self._refused or self.transport.is_closing():
            return
        self._refused = True
        metrics.inc("turnstile_http_heads_refused_total", status=str(status))
        if self._answering:
            self.transport.close()
            return
        detail = {408: TOO_SLOW, 431: TOO_LARGE}.get(status, words)
        body = problem_json(Rejected(_WORDS[status], detail))
        head = (
            f"HTTP/1.1 {status} {HTTPStatus(status).phrase}\r\ncontent-type: {PROBLEM_JSON}\r\n"
            f"content-length: {len(body)}\r\nconnection: close\r\n\r\n"
        )
        self.transport.write(head.encode() + body)
        self.transport.write_eof()
        asyncio.get_running_loop().call_later(LINGER_SECONDS, self.transport.close)
