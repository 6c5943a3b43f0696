"""Requests to servers that somebody named, over real connections: where they go, how long, how much."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager

import pytest

from services.gateway.adapters.oauth_http import MOST_BYTES, GuardedHttp
from services.gateway.connect.hosts import Hosts
from shared.errors import Rejected, Transient

pytestmark = pytest.mark.integration
CANARY = "canary-4711-never-shown"
Talk = Callable[[bytes, asyncio.StreamWriter], Awaitable[None]]


@asynccontextmanager
async def a_server(talk: Talk) -> AsyncIterator[tuple[int, list[bytes]]]:
    """A server's port, and the heads and bodies that it was sent."""
    heard: list[bytes] = []

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        head = await reader.readuntil(b"\r\n\r\n")
        length = next(
            (int(x.split(b":")[1]) for x in head.lower().splitlines() if b"content-length" in x), 0
        )
        heard.append(head + await reader.readexactly(length))
        try:
            await talk(head, writer)
        except ConnectionError:
            pass
        finally:
            writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    async with server:
        yield server.sockets[0].getsockname()[1], heard


def saying(*lines: str, body: bytes = b"") -> Talk:
    async def talk(_: bytes, writer: asyncio.StreamWriter) -> None:
        writer.write("\r\n".join([*lines, "Connection: close", "", ""]).encode() + body)
        await writer.drain()

    return talk


@asynccontextmanager
async def asking(*allowed: str, seconds: float = 5.0) -> AsyncIterator[GuardedHttp]:
    http = GuardedHttp(Hosts(allowed), seconds)
    yield http
    await http.stop()


async def test_a_form_is_sent_and_the_answer_is_whole() -> None:
    talk = saying(
        "HTTP/1.1 401 No", 'WWW-Authenticate: Bearer a="b"', "Content-Length: 2", body=b"{}"
    )
    async with a_server(talk) as (port, heard), asking("127.0.0.1") as http:
        url = f"http://127.0.0.1:{port}/token?a=%2F"
        answer = await http.post(url, form={"code": "a b&"}, headers={"Authorization": "Basic x"})
    assert (answer.status, answer.challenge, answer.body) == (401, 'Bearer a="b"', b"{}")
    assert b"POST /token?a=%2F HTTP/1.1" in heard[0]
    assert heard[0].endswith(b"code=a+b%26")
    assert b"Authorization: Basic x" in heard[0]


async def test_a_redirect_is_an_answer_and_not_followed() -> None:
    async with a_server(saying("HTTP/1.1 200 OK", "Content-Length: 0")) as (inner, heard):
        talk = saying("HTTP/1.1 302 Found", f"Location: http://127.0.0.1:{inner}/")
        async with a_server(talk) as (port, _), asking("127.0.0.1") as http:
            assert (await http.get(f"http://127.0.0.1:{port}/")).status == 302
        assert heard == []


@pytest.mark.parametrize("name", ["localhost", "127.1", "0x7f000001", "2130706433"])
async def test_a_name_that_leads_to_a_private_address_is_not_asked(name: str) -> None:
    async with a_server(saying("HTTP/1.1 200 OK")) as (port, heard), asking() as http:
        with pytest.raises(Rejected, match="address") as caught:
            await http.get(f"https://{name}:{port}/")
        assert caught.value.reason == "oauth_server_refused"
        assert heard == []


async def test_a_name_that_the_deployment_names_is() -> None:
    talk = saying("HTTP/1.1 200 OK", "Content-Length: 0")
    async with a_server(talk) as (port, _), asking(f"localhost:{port}") as http:
        assert (await http.get(f"http://localhost:{port}/")).status == 200


async def test_an_answer_without_end_is_cut_off() -> None:
    async def talk(_: bytes, writer: asyncio.StreamWriter) -> None:
        writer.write(b"HTTP/1.1 200 OK\r\n\r\n")
        while True:
            writer.write(b"x" * 65536)
            await writer.drain()

    async with a_server(talk) as (port, _), asking("127.0.0.1") as http:
        with pytest.raises(Rejected, match=str(MOST_BYTES)):
            await http.get(f"http://127.0.0.1:{port}/")
        assert (await http.get(f"http://127.0.0.1:{port}/", body=False)).status == 200


async def test_a_server_that_does_not_answer_is_transient() -> None:
    async def talk(_: bytes, writer: asyncio.StreamWriter) -> None:
        await writer.wait_closed()

    async with a_server(talk) as (port, _), asking("127.0.0.1", seconds=0.2) as http:
        with pytest.raises(Transient, match="within 0"):
            await http.get(f"http://127.0.0.1:{port}/")


@pytest.mark.parametrize(
    "talk", [saying(f"{CANARY} is no HTTP"), saying("HTTP/1.1 200 OK", "Content-Length: 9")]
)
async def test_what_is_raised_holds_nothing_of_the_request(talk: Talk) -> None:
    async with a_server(talk) as (port, _), asking("127.0.0.1") as http:
        with pytest.raises(Transient) as caught:
            await http.post(f"http://127.0.0.1:{port}/", form={"code": CANARY})
    assert CANARY not in str(caught.value)
    assert caught.value.__cause__ is None
    assert caught.value.__context__ is None


async def test_an_address_of_another_scheme_is_not_asked() -> None:
    async with asking() as http:
        for url in ("http://mcp.example/", "file:///etc/passwd", "https://10.0.0.1/"):
            with pytest.raises(Rejected):
                await http.get(url)
