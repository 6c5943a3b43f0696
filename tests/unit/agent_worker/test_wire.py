"""The provider's connections: what happens on a real one is told in the SDK's words, and nothing is tried twice."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager

import httpx2
import pytest

from services.agent_worker.provider.wire import Wire

pytestmark = pytest.mark.unit

Serve = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]
HEAD = b"HTTP/1.1 200 OK\r\ncontent-type: text/plain\r\n"
WHOLE = HEAD + b"content-length: 5\r\n\r\nhello"


class Server:
    """Runs `serve` for each connection and counts them."""

    def __init__(self, serve: Serve) -> None:
        self._serve = serve
        self.connections = 0
        self.hung_up = asyncio.Event()

    async def __call__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.connections += 1
        try:
            await self._serve(reader, writer)
            writer.close()
        except (ConnectionError, asyncio.IncompleteReadError):
            self.hung_up.set()


@asynccontextmanager
async def talking(
    serve: Serve, **timeouts: float
) -> AsyncIterator[tuple[httpx2.AsyncClient, Server]]:
    """A client of a server that does `serve`."""
    counted = Server(serve)
    server = await asyncio.start_server(counted, "127.0.0.1", 0)
    url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
    timeout = httpx2.Timeout(5.0, **timeouts)
    wire = Wire(10, lambda request: None)
    async with httpx2.AsyncClient(transport=wire, base_url=url, timeout=timeout) as client:
        yield client, counted
    server.close()


async def whole_answers(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    while True:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(WHOLE)


async def no_answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    await reader.readuntil(b"\r\n\r\n")


async def half_an_answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    await reader.readuntil(b"\r\n\r\n")
    writer.write(HEAD + b"content-length: 5\r\n\r\nhe")


async def no_http(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    await reader.readuntil(b"\r\n\r\n")
    writer.write(b"what is HTTP?\r\n\r\n")


async def silence(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    await reader.readuntil(b"\r\n\r\n")
    await reader.readexactly(1)


async def deaf(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    await reader.readuntil(b"\r\n\r\n")
    await asyncio.sleep(5)


async def test_a_connection_is_used_again_once_its_answer_was_read() -> None:
    async with talking(whole_answers) as (client, server):
        for _ in range(3):
            assert (await client.get("/")).text == "hello"
    assert server.connections == 1


@pytest.mark.parametrize(
    ("serve", "error"),
    [
        (no_answer, httpx2.ReadError),
        (half_an_answer, httpx2.RemoteProtocolError),
        (no_http, httpx2.RemoteProtocolError),
        (silence, httpx2.ReadTimeout),
    ],
)
@pytest.mark.parametrize("method", ["GET", "POST", "DELETE"])
async def test_what_breaks_is_told_once_and_not_tried_again(
    serve: Serve, error: type[Exception], method: str
) -> None:
    async with talking(serve, read=0.2) as (client, server):
        with pytest.raises(error):
            await client.request(method, "/")
    assert server.connections == 1


async def test_a_connection_that_broke_after_an_answer_is_not_replaced_for_a_get() -> None:
    """Whether to ask again is the driver's to say, who asks the governor first."""

    async def one_answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(WHOLE)
        await reader.readuntil(b"\r\n\r\n")

    async with talking(one_answer) as (client, server):
        await client.get("/")
        with pytest.raises(httpx2.ReadError):
            await client.get("/")
    assert server.connections == 1


async def test_who_does_not_listen_is_no_connection() -> None:
    server = await asyncio.start_server(whole_answers, "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    server.close()
    await server.wait_closed()
    async with httpx2.AsyncClient(transport=Wire(1, lambda request: None)) as client:
        with pytest.raises(httpx2.ConnectError):
            await client.post(f"http://127.0.0.1:{port}/")


async def test_a_body_that_nobody_takes_is_given_up() -> None:
    async with talking(deaf, write=0.2) as (client, _):
        with pytest.raises(httpx2.WriteTimeout):
            await client.post("/", content=bytes(64 * 1024 * 1024))


async def test_a_stream_that_is_left_hangs_up() -> None:
    async def endless(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(HEAD + b"transfer-encoding: chunked\r\n\r\n5\r\nhello\r\n")
        await reader.readexactly(1)

    async with talking(endless) as (client, server):
        async with client.stream("GET", "/") as response:
            assert await anext(response.aiter_bytes()) == b"hello"
        async with asyncio.timeout(5):
            await server.hung_up.wait()


async def test_the_environments_proxy_is_asked(monkeypatch: pytest.MonkeyPatch) -> None:
    asked = list[bytes]()

    async def proxy(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        asked.append(await reader.readuntil(b"\r\n\r\n"))
        writer.write(WHOLE)

    async with talking(proxy) as (client, _):
        monkeypatch.setenv("http_proxy", str(client.base_url).replace("://", "://me:secret@"))
        monkeypatch.setenv("no_proxy", "elsewhere")
        assert (await client.get("http://provider.test/v1")).text == "hello"
    assert asked[0].startswith(b"GET http://provider.test/v1 HTTP/1.1\r\n")
    assert b"\r\nProxy-Authorization: Basic " in asked[0]
