"""HTTP for the provider's SDK, carried by aiohttp: its parser is compiled, and it finds a free connection without
looking through the others.

The SDK brings a transport of that kind too (`DefaultAioHttpClient`), which gives no say at the moment at which a
request's bytes leave.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import contextmanager
from urllib.request import getproxies, proxy_bypass

import aiohttp
import httpx2
from aiohttp.abc import AbstractStreamWriter
from yarl import URL

# Seconds that a connection stays open unused. Servers close theirs after a minute or more: a request must not
# meet that.
KEPT_S = 5.0
# Bytes of an answer that wait for their reader, before the sender is held: twice this, for each stream.
WAITING_BYTES = 16 * 1024
# Of a body, the bytes that are handed on at once.
PIECE_BYTES = 64 * 1024

# The first that fits. Both sides' errors tell of the same moments: connecting, waiting, the middle of an answer.
ERRORS: tuple[tuple[type[Exception], type[httpx2.TransportError]], ...] = (
    (aiohttp.ConnectionTimeoutError, httpx2.ConnectTimeout),
    (aiohttp.ServerTimeoutError, httpx2.ReadTimeout),
    (aiohttp.ClientProxyConnectionError, httpx2.ProxyError),
    (aiohttp.ClientHttpProxyError, httpx2.ProxyError),
    (aiohttp.ClientConnectorError, httpx2.ConnectError),
    (aiohttp.ClientConnectionError, httpx2.ReadError),
    (aiohttp.ClientPayloadError, httpx2.RemoteProtocolError),
    (aiohttp.ClientResponseError, httpx2.RemoteProtocolError),
    (aiohttp.ClientError, httpx2.NetworkError),
    (TimeoutError, httpx2.ReadTimeout),
    (OSError, httpx2.NetworkError),
)


class Wire(httpx2.AsyncBaseTransport):
    """Up to `connections` at once. `leaving` is called for each request that is no GET, when its first byte is
    about to leave; what it raises is raised, and nothing has left then.

    Makes its connections in the loop of the first request. The environment's proxy for its host is the one of all.
    """

    def __init__(self, connections: int, leaving: Callable[[httpx2.Request], None]) -> None:
        self._connections = connections
        self._leaving = leaving
        self._session: aiohttp.ClientSession | None = None

    async def handle_async_request(self, request: httpx2.Request) -> httpx2.Response:
        """See httpx2.AsyncBaseTransport."""
        if self._session is None:
            self._session = self._opened(_proxy(request.url))
        waits = request.extensions.get("timeout", {})
        timeout = aiohttp.ClientTimeout(
            connect=waits.get("pool"),
            sock_connect=waits.get("connect"),
            sock_read=waits.get("read"),
        )
        body = None
        if request.method != "GET":
            data = await request.aread()
            body = _Body(data, waits.get("write"), lambda: self._leaving(request))
        answer = await self._session.request(
            request.method,
            URL(str(request.url), encoded=True),
            headers=request.headers,
            data=body,
            timeout=timeout,
            allow_redirects=False,
        )
        reason = (answer.reason or "").encode()
        return httpx2.Response(
            answer.status,
            headers=answer.raw_headers,
            stream=_Answer(answer),
            extensions={"http_version": b"HTTP/1.1", "reason_phrase": reason},
        )

    async def aclose(self) -> None:
        """Close all connections."""
        if self._session is not None:
            await self._session.close()

    def _opened(self, proxy: str | None) -> aiohttp.ClientSession:
        connector = aiohttp.TCPConnector(
            limit=self._connections, keepalive_timeout=KEPT_S, ssl=httpx2.create_ssl_context()
        )
        return aiohttp.ClientSession(
            connector=connector,
            cookie_jar=aiohttp.DummyCookieJar(),
            auto_decompress=False,
            read_bufsize=WAITING_BYTES,
            proxy=proxy,
            middlewares=(_once,),
        )


async def _once(
    request: aiohttp.ClientRequest, handler: aiohttp.ClientHandlerType
) -> aiohttp.ClientResponse:
    """One try: aiohttp repeats a GET whose connection broke, unless the error is one that it does not know."""
    with _in_our_words(request.body):
        return await handler(request)


def _proxy(url: httpx2.URL) -> str | None:
    if proxy_bypass(url.host):
        return None
    proxies = getproxies()
    return proxies.get(url.scheme) or proxies.get("all")


class _Body(aiohttp.BytesPayload):
    """A request's body, which takes the head along: nothing is written before `leaving` has returned. Each piece
    may take `patience` seconds."""

    def __init__(self, data: bytes, patience: float | None, leaving: Callable[[], None]) -> None:
        super().__init__(data)
        self._data = data
        self._patience = patience
        self._ask = leaving
        self.failure: Exception | None = None

    async def write_with_length(
        self, writer: AbstractStreamWriter, content_length: int | None
    ) -> None:
        """See aiohttp.Payload."""
        try:
            self._ask()
            for begin in range(0, len(self._data), PIECE_BYTES):
                async with asyncio.timeout(self._patience):
                    await writer.write(self._data[begin : begin + PIECE_BYTES])
        except TimeoutError:
            self.failure = httpx2.WriteTimeout("the other side takes nothing")
            raise
        except Exception as failure:
            self.failure = failure
            raise


class _Answer(httpx2.AsyncByteStream):
    """The body of an answer, as it comes."""

    def __init__(self, answer: aiohttp.ClientResponse) -> None:
        self._answer = answer

    async def __aiter__(self) -> AsyncIterator[bytes]:
        with _in_our_words():
            async for piece in self._answer.content.iter_any():
                yield piece

    async def aclose(self) -> None:
        """Give the connection back, or close it in mid-answer."""
        self._answer.release() if self._answer.content.at_eof() else self._answer.close()


@contextmanager
def _in_our_words(body: object = None) -> Iterator[None]:
    """aiohttp's errors as httpx's, and what was raised where a _Body was to be written as it was."""
    try:
        yield
    except Exception as caught:
        error = (isinstance(body, _Body) and body.failure) or caught
        for theirs, ours in ERRORS:
            if isinstance(error, theirs):
                raise ours(f"{type(error).__name__}: {error}") from error
        raise error from None
