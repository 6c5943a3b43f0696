"""Crowds at a gateway on real parts: served from a database far away, turned away beyond the stated capacity."""

from __future__ import annotations

import asyncio
import os
import signal
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from urllib.parse import urlsplit

import httpx2
import pytest

from infra.kafka.topics import create_topics
from infra.local.processes import read_pid
from infra.postgres.migrate import migrate_async
from tests.clickhouse_server import fresh_database
from tests.integration.gateway_process import GatewayProcess, gateway_process
from tests.stack import running_parts

pytestmark = pytest.mark.integration
ONE_WAY_S = 0.025
CLIENTS, OPENINGS = 200, 500
AT_ONCE, WAITING = 4, 6
FIRST = asyncio.FIRST_COMPLETED


@asynccontextmanager
async def far_away(url: str) -> AsyncIterator[str]:
    """The URL of the same database, every byte on its way to or from it for ONE_WAY_S."""
    place = urlsplit(url)

    async def carry(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        loop = asyncio.get_running_loop()
        while data := await reader.read(65536):
            loop.call_later(ONE_WAY_S, writer.write, data)
        loop.call_later(ONE_WAY_S, writer.close)

    async def carried(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        there, to_there = await asyncio.open_connection(place.hostname, place.port)
        await asyncio.gather(carry(reader, to_there), carry(there, writer), return_exceptions=True)

    server = await asyncio.start_server(carried, "127.0.0.1", 0)
    try:
        port = server.sockets[0].getsockname()[1]
        yield place._replace(netloc=f"{place.username}@127.0.0.1:{port}").geturl()
    finally:
        server.close()


@asynccontextmanager
async def crowd(gateway: GatewayProcess) -> AsyncIterator[httpx2.AsyncClient]:
    """A client with a connection for everybody."""
    headers, limits = {"Authorization": "Bearer key-a"}, httpx2.Limits(max_connections=None)
    async with httpx2.AsyncClient(
        base_url=gateway.url, headers=headers, limits=limits, timeout=60
    ) as client:
        yield client


async def test_a_far_database_serves_a_crowd_that_opens_listens_and_talks_at_once(
    kafka_bootstrap: str, postgres_url: str, clickhouse_url: str
) -> None:
    await migrate_async(postgres_url)
    async with (
        far_away(postgres_url) as database,
        gateway_process(kafka_bootstrap, database, fresh_database(clickhouse_url)) as gateway,
        crowd(gateway) as http,
    ):

        async def opened(name: str) -> str:
            wish = {"session_id": name, "user_id": "u1"}
            return in_short(await http.post("/v1/sessions", json=wish))

        async def listened(name: str) -> str:
            async with http.stream("GET", f"/v1/sessions/{name}/events") as answer:
                assert await anext(answer.aiter_lines())
                return str(answer.status_code)

        async def talks(name: str) -> tuple[str, str, str]:
            status = await opened(name)
            said = http.post(f"/v1/sessions/{name}/turns", json={"content": "a", "turn_id": "t1"})
            heard, answer = await asyncio.gather(listened(name), said)
            return status, heard, in_short(answer)

        told = await asyncio.gather(*(talks(f"talk-{number}") for number in range(CLIENTS)))
        assert Counter(told) == {("201", "200", "202"): CLIENTS}
        short = await asyncio.gather(*(opened(f"open-{number}") for number in range(OPENINGS)))
        assert Counter(short) == {"201": OPENINGS}


def in_short(answer: httpx2.Response) -> str:
    """The status; of a refusal with its words, which say what it was that was late."""
    refused = answer.status_code >= 400
    return f"{answer.status_code} {answer.json()['detail']}" if refused else str(answer.status_code)


async def test_beyond_its_stated_capacity_a_gateway_says_when_to_come_again(
    postgres_url: str, clickhouse_url: str
) -> None:
    async with running_parts("kafka") as settings:
        bootstrap = f"127.0.0.1:{settings.ports['kafka']}"
        await create_topics(bootstrap)
        broker = read_pid(settings.folders.pid_file("kafka"))
        assert broker is not None
        capacity = {
            "TURNSTILE_GATEWAY_AT_ONCE": str(AT_ONCE),
            "TURNSTILE_GATEWAY_MAX_WAITING": str(WAITING),
        }
        archive = fresh_database(clickhouse_url)
        async with (
            gateway_process(bootstrap, postgres_url, archive, **capacity) as gateway,
            crowd(gateway) as http,
        ):
            await _fill_and_overfill(http, broker)


async def _fill_and_overfill(http: httpx2.AsyncClient, broker: int) -> None:
    """While the log is silent nobody who was let in gets out again: the rest must be turned away at once."""

    async def post(number: int) -> httpx2.Response:
        return await http.post("/v1/sessions", json={"session_id": f"s{number}", "user_id": "u1"})

    os.kill(broker, signal.SIGSTOP)
    try:
        asked = [asyncio.create_task(post(number)) for number in range(4 * (AT_ONCE + WAITING))]
        away = 3 * (AT_ONCE + WAITING)
        while sum(one.done() for one in asked) < away:
            await asyncio.wait([one for one in asked if not one.done()], return_when=FIRST)
        turned_away = [one.result() for one in asked if one.done()]
    finally:
        os.kill(broker, signal.SIGCONT)
    for answer in turned_away:
        assert answer.status_code == 503
        assert answer.json()["type"] == "urn:turnstile:problem:overloaded"
        assert int(answer.headers["retry-after"]) >= 1
    answers = await asyncio.gather(*asked)
    assert Counter(answer.status_code for answer in answers) == {503: away, 201: AT_ONCE + WAITING}
    again = [await post(number) for number, one in enumerate(answers) if one.status_code == 503]
    assert {answer.status_code for answer in again} == {201}
