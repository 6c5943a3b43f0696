"""What a client may send before it is a request, on real sockets: bounds in bytes, number and time."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from typing import Any

import pytest
import uvicorn

from services.gateway.http import connection as connection_module
from services.gateway.http import request as request_module
from services.gateway.http.connection import MAX_HEAD_BYTES as MAX_HEAD
from services.gateway.http.connection import MAX_HEADERS, Connection
from shared.health import QuietServer
from tests.e2e.waiting import eventually
from tests.unit.gateway.desk import Desk

pytestmark = pytest.mark.integration
WAIT_S = 10.0
GET = b"GET /v1/sessions HTTP/1.1\r\n"
KEY = b"authorization: Bearer key-a\r\n"
POST = b"POST /v1/sessions HTTP/1.1\r\n" + KEY + b"content-type: application/json\r\n"


@pytest.fixture
async def port() -> AsyncIterator[int]:
    """A gateway on memory ports that listens as the real one does."""
    config = uvicorn.Config(
        Desk().app, host="127.0.0.1", port=0, http=Connection, lifespan="off", log_config=None
    )
    server = QuietServer(config)
    task = asyncio.create_task(server.serve())
    await eventually(lambda: started(server), "listening", WAIT_S)
    yield server.servers[0].sockets[0].getsockname()[1]
    server.should_exit = True
    await asyncio.wait_for(task, WAIT_S)


async def started(server: QuietServer) -> bool | None:
    return server.started or None


class Client:
    """One connection; `sent` counts what the other side took."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader = reader
        self.writer = writer
        self.sent = 0

    async def send(self, *pieces: bytes) -> None:
        for piece in pieces:
            self.writer.write(piece)
            await self.writer.drain()
            self.sent += len(piece)

    async def answer(self) -> tuple[int, dict[str, Any]]:
        """Status and body of the next answer."""
        async with asyncio.timeout(WAIT_S):
            head = (await self.reader.readuntil(b"\r\n\r\n")).decode().lower()
            length = int(head.partition("content-length: ")[2].partition("\r\n")[0])
            told: dict[str, Any] = json.loads(await self.reader.readexactly(length))
        if "type" in told:
            assert "content-type: application/problem+json" in head
        return int(head.split()[1]), told

    async def ended(self) -> bool:
        """Whether nothing more comes."""
        async with asyncio.timeout(WAIT_S):
            with suppress(ConnectionError):
                return await self.reader.read() == b""
        return True


@asynccontextmanager
async def connected(port: int) -> AsyncIterator[Client]:
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    try:
        yield Client(reader, writer)
    finally:
        writer.close()
        with suppress(ConnectionError):
            await writer.wait_closed()


def headers(count: int, size: int = 0) -> bytes:
    """So many headers; with `size`, so many bytes of them in all."""
    names = [f"x-{n}: ".encode() for n in range(count)]
    rest = max(0, size - sum(len(name) + 2 for name in names))
    values = [b"v" * (rest if n == 0 else 0) for n in range(count)]
    return b"".join(name + value + b"\r\n" for name, value in zip(names, values, strict=True))


@pytest.mark.parametrize(
    "block",
    [
        headers(1, 1_000_000),
        headers(5_000),
        headers(MAX_HEADERS),
        headers(1, MAX_HEAD),
        headers(150, MAX_HEAD + 1),
    ],
    ids=["1 MB in one", "5,000", "201", "65,537 bytes", "in many"],
)
@pytest.mark.parametrize("piece", [1 << 20, 1_000], ids=["at once", "in pieces"])
async def test_headers_beyond_the_bounds_are_refused(port: int, block: bytes, piece: int) -> None:
    request = GET + KEY + block + b"\r\n"
    async with connected(port) as client:
        with suppress(ConnectionError):
            await client.send(*(request[at : at + piece] for at in range(0, len(request), piece)))
        status, told = await client.answer()
        assert (status, told["type"]) == (431, "urn:turnstile:problem:head_too_large")
        assert "65536" in told["detail"]
        assert await client.ended()


@pytest.mark.parametrize(
    "block",
    [headers(MAX_HEADERS - 1), headers(150, MAX_HEAD - len(GET + KEY) - 2)],
    ids=["200", "nearly 64 KiB"],
)
@pytest.mark.parametrize("piece", [1 << 20, 1_000], ids=["at once", "in pieces"])
async def test_headers_within_the_bounds_are_taken(port: int, block: bytes, piece: int) -> None:
    request = GET + KEY + block + b"\r\n"
    async with connected(port) as client:
        for _ in range(3):
            await client.send(*(request[at : at + piece] for at in range(0, len(request), piece)))
            assert (await client.answer())[0] == 200


async def test_a_header_that_never_ends_is_not_kept(port: int) -> None:
    async with connected(port) as client:
        answer = asyncio.create_task(client.answer())  # read at once: a reset takes what was not
        with suppress(ConnectionError):
            await client.send(GET, b"x-endless: ", *[b"x" * 65_536] * 4_096)
        assert (await answer)[0] == 431


async def test_an_address_without_end_is_refused(port: int) -> None:
    async with connected(port) as client:
        answer = asyncio.create_task(client.answer())
        with suppress(ConnectionError):
            await client.send(b"GET /v1/sessions?q=", *[b"x" * 4_096] * 200)
        status, told = await answer
        assert (status, told["type"]) == (431, "urn:turnstile:problem:head_too_large")


async def test_a_large_body_is_no_header(port: int) -> None:
    body = json.dumps({"user_id": "u1", "title": "t" * 300_000}).encode()
    async with connected(port) as client:
        await client.send(POST, b"content-length: %d\r\n\r\n" % len(body), body)
        status, told = await client.answer()
        assert (status, told["errors"][0]["field"]) == (400, "title")
        await client.send(GET + KEY + b"\r\n")
        assert (await client.answer())[0] == 200


def opening(session_id: str, *more: bytes) -> bytes:
    body = b'{"user_id":"u1","session_id":"%b"}' % session_id.encode()
    length = b"content-length: %d\r\n" % len(body)
    return POST + length + b"".join(one + b"\r\n" for one in more) + b"\r\n" + body


async def test_posts_on_one_connection_are_answered_in_order(port: int) -> None:
    async with connected(port) as client:
        await client.send(*(opening(f"s{n}") for n in range(3)))  # one by one
        assert [(await client.answer())[1]["session_id"] for _ in range(3)] == ["s0", "s1", "s2"]
        await client.send(b"".join(opening(f"s{n}") for n in range(3, 8)))  # all at once
        told = [await client.answer() for _ in range(5)]
        assert [one["session_id"] for _, one in told] == [f"s{n}" for n in range(3, 8)]
        assert {status for status, _ in told} == {201}


async def test_an_answer_has_the_headers_of_any_answer(port: int) -> None:
    async with connected(port) as client:
        for request in (opening("s1"), GET + KEY + b"\r\n"):
            await client.send(request)
            head = (await client.reader.readuntil(b"\r\n\r\n")).lower()
            fields = {line.partition(b":")[0] for line in head.split(b"\r\n")[1:] if line}
            assert fields == {b"date", b"server", b"content-type", b"content-length"}
            assert b"content-type: application/json" in head
            await client.reader.readexactly(int(head.partition(b"content-length: ")[2].split()[0]))


@pytest.mark.parametrize("version", [b"1.1", b"1.0"])
async def test_a_connection_that_is_to_end_ends_with_its_answer(port: int, version: bytes) -> None:
    last = opening("s1", b"connection: close").replace(b"HTTP/1.1", b"HTTP/" + version)
    async with connected(port) as client:
        await client.send(last)
        assert (await client.answer())[0] == 201
        assert await client.ended()


async def test_who_hangs_up_before_the_answer_harms_nobody(port: int) -> None:
    async with connected(port) as client:
        await client.send(opening("gone"))
    async with connected(port) as client:
        await client.send(opening("gone"))
        assert (await client.answer())[1]["session_id"] == "gone"


async def test_trailers_are_headers_too(port: int) -> None:
    body = b'{"user_id":"u1"}'
    chunk = b"%x\r\n%b\r\n0\r\n" % (len(body), body)
    async with connected(port) as client:
        with suppress(ConnectionError):
            await client.send(POST, b"transfer-encoding: chunked\r\n\r\n", chunk, headers(5_000))
        # Whatever was answered meanwhile: nothing more is taken.
        await asyncio.wait_for(client.reader.read(), WAIT_S)


async def test_what_is_no_http_is_told_so_as_a_problem(port: int) -> None:
    async with connected(port) as client:
        await client.send(b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03")
        status, told = await client.answer()
        assert (status, told["type"]) == (400, "urn:turnstile:problem:invalid_request")


async def test_headers_that_never_end_are_waited_for_a_bounded_time(
    port: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(connection_module, "HEAD_SECONDS", 0.5)
    began = asyncio.get_running_loop().time()
    async with connected(port) as client:
        dripping = asyncio.create_task(_drip(client))
        status, told = await client.answer()
        assert (status, told["type"]) == (408, "urn:turnstile:problem:head_timeout")
        assert await client.ended()
        dripping.cancel()
    assert asyncio.get_running_loop().time() - began >= 0.5


async def _drip(client: Client) -> None:
    """A header every now and then."""
    with suppress(ConnectionError):
        await client.send(GET)
        for n in range(1_000):
            await client.send(b"x-%d: a\r\n" % n)
            await asyncio.sleep(0.05)


async def test_a_client_that_is_done_may_keep_its_connection(
    port: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(connection_module, "HEAD_SECONDS", 0.2)
    async with connected(port) as client:
        for _ in range(2):
            await client.send(GET + KEY + b"\r\n")
            assert (await client.answer())[0] == 200
            await asyncio.sleep(0.4)


async def test_a_body_that_never_comes_is_waited_for_a_bounded_time(
    port: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(request_module, "BODY_SECONDS", 0.3, raising=False)
    async with connected(port) as client:
        await client.send(POST, b"content-length: 100\r\n\r\n", b'{"user')
        status, told = await client.answer()
        assert (status, told["type"]) == (408, "urn:turnstile:problem:body_timeout")
        assert await client.ended()


async def test_an_answer_under_way_is_not_broken_into(port: int) -> None:
    """A stream whose client begins another request on the same connection, and never ends it."""
    async with connected(port) as client:
        opened = b'{"user_id":"u1","session_id":"ses_1"}'
        await client.send(POST, b"content-length: %d\r\n\r\n" % len(opened), opened)
        assert (await client.answer())[0] == 201
        await client.send(b"GET /v1/sessions/ses_1/events HTTP/1.1\r\n", KEY, b"\r\n")
        await asyncio.wait_for(client.reader.readuntil(b"retry: 2000"), WAIT_S)
        with suppress(ConnectionError):
            await client.send(GET, headers(5_000))
        assert b"HTTP/1.1" not in await asyncio.wait_for(client.reader.read(), WAIT_S)
