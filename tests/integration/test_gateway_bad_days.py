"""A broker that does not answer, a gateway that dies after its acknowledgement, bodies too large."""

from __future__ import annotations

import asyncio
import os
import signal
import time
from collections.abc import AsyncIterator

import pytest

from infra.kafka.topics import create_topics
from infra.local.processes import read_pid
from tests.clickhouse_server import fresh_database
from tests.integration.gateway_process import GatewayProcess, gateway_process
from tests.stack import running_parts

pytestmark = pytest.mark.integration
TURNS = "/v1/sessions/ses_1/turns"


@pytest.fixture(scope="module")
async def parts(
    postgres_url: str, clickhouse_url: str
) -> AsyncIterator[tuple[GatewayProcess, int]]:
    """A gateway on a broker of its own, and that broker's pid."""
    async with running_parts("kafka") as settings:
        bootstrap = f"127.0.0.1:{settings.ports['kafka']}"
        await create_topics(bootstrap)
        broker = read_pid(settings.folders.pid_file("kafka"))
        assert broker is not None
        async with gateway_process(bootstrap, postgres_url, fresh_database(clickhouse_url)) as one:
            async with one.client() as client:
                await client.post("/v1/sessions", json={"user_id": "u1", "session_id": "ses_1"})
            yield one, broker


async def test_a_silent_broker_is_a_503_in_time_and_the_retry_is_the_same_turn(
    parts: tuple[GatewayProcess, int],
) -> None:
    gateway, broker = parts
    wish = {"content": "hello"}
    headers = {"Idempotency-Key": "k1"}
    async with gateway.client() as client:
        os.kill(broker, signal.SIGSTOP)
        try:
            began = time.monotonic()
            answer = await client.post(TURNS, json=wish, headers=headers)
            assert answer.status_code == 503
            assert time.monotonic() - began < 5
            assert answer.headers["content-type"] == "application/problem+json"
            assert answer.headers["retry-after"]
            assert answer.json()["type"] == "urn:turnstile:problem:kafka_unavailable"
            ready = await client.get("/readyz")
            assert ready.status_code == 503
            assert ready.json()["dependencies"]["kafka"]["status"] == "error"
        finally:
            os.kill(broker, signal.SIGCONT)
        first = await _accepted(gateway, wish, headers)
        again = await client.post(TURNS, json=wish, headers=headers)
        assert again.json() == first


async def test_a_broker_that_is_silent_for_long_leaves_a_working_gateway(
    parts: tuple[GatewayProcess, int],
) -> None:
    gateway, broker = parts
    os.kill(broker, signal.SIGSTOP)
    try:
        async with gateway.client() as client:
            # Longer than the producer keeps a batch: its sequence is broken then.
            for number in range(4):
                body = {"content": "x", "turn_id": f"long{number}"}
                assert (await client.post(TURNS, json=body)).status_code == 503
    finally:
        os.kill(broker, signal.SIGCONT)
    for number in range(20):
        await _accepted(gateway, {"content": "y", "turn_id": f"after{number}"}, {})


async def test_a_body_too_large_is_refused_and_the_next_one_taken(
    parts: tuple[GatewayProcess, int],
) -> None:
    gateway, _ = parts
    async with gateway.client() as client:
        answer = await client.post(TURNS, content=b"x" * (3 * 1024 * 1024))
        assert answer.status_code == 413
        assert answer.json()["type"] == "urn:turnstile:problem:too_large"
        assert (await client.post(TURNS, json={"content": "fine"})).status_code == 202


async def test_what_was_acknowledged_is_seen_by_another_gateway(
    kafka_bootstrap: str, postgres_url: str, clickhouse_url: str
) -> None:
    archive = fresh_database(clickhouse_url)
    async with (
        gateway_process(kafka_bootstrap, postgres_url, archive) as one,
        gateway_process(kafka_bootstrap, postgres_url, archive) as two,
    ):
        async with one.client() as client:
            wish = {"user_id": "u1", "session_id": "ses_two"}
            assert (await client.post("/v1/sessions", json=wish)).status_code == 201
        async with two.client() as client:
            body = {"content": "a", "turn_id": "t1"}
            answer = await client.post("/v1/sessions/ses_two/turns", json=body)
            assert answer.status_code == 202
        two.process.kill()  # before it wrote anything behind, most of the time
        assert await _status(one, "/v1/sessions/ses_two/turns/t1", 15) == "accepted"


async def test_two_gateways_and_one_started_again_agree_on_what_a_key_stands_for(
    kafka_bootstrap: str, postgres_url: str, clickhouse_url: str
) -> None:
    archive = fresh_database(clickhouse_url)
    path, count = "/v1/sessions/ses_keys/turns", 20

    async def told(gateway: GatewayProcess, key: int, turn_id: str | None) -> str:
        body = {"content": "a", **({"turn_id": turn_id} if turn_id else {})}
        async with gateway.client() as client:
            answer = await client.post(path, json=body, headers={"Idempotency-Key": f"k{key}"})
        assert answer.status_code == 202, answer.text
        return str(answer.json()["turn_id"])

    async with gateway_process(kafka_bootstrap, postgres_url, archive) as one:
        async with gateway_process(kafka_bootstrap, postgres_url, archive) as two:
            async with one.client() as client:
                wish = {"user_id": "u1", "session_id": "ses_keys"}
                assert (await client.post("/v1/sessions", json=wish)).status_code == 201
            first: list[str] = []
            for key in range(count):
                race = (
                    told(one, key, f"t{key}-one"),
                    told(two, key, f"t{key}-two"),
                    told(two, key, None),
                )
                answers = set(await asyncio.gather(*race))
                assert len(answers) == 1, answers
                first += answers
        async with gateway_process(kafka_bootstrap, postgres_url, archive) as again:
            later = [await told(again, key, f"t{key}-again") for key in range(count)]
            assert later == first


async def _accepted(
    gateway: GatewayProcess, body: dict[str, str], headers: dict[str, str]
) -> dict[str, str]:
    """Post until it is taken, for 20 s at most."""
    deadline = time.monotonic() + 20
    async with gateway.client() as client:
        while True:
            answer = await client.post(TURNS, json=body, headers=headers)
            if answer.status_code == 202:
                accepted: dict[str, str] = answer.json()
                return accepted
            assert answer.status_code == 503, answer.text
            assert time.monotonic() < deadline, answer.text


async def _status(gateway: GatewayProcess, path: str, seconds: float) -> str:
    deadline = time.monotonic() + seconds
    async with gateway.client() as client:
        while True:
            answer = await client.get(path)
            if answer.status_code == 200:
                return str(answer.json()["status"])
            assert time.monotonic() < deadline, answer.text
            await asyncio.sleep(0.05)


async def _raw(gateway: GatewayProcess, *pieces: bytes, pause: float = 0.0) -> bytes:
    """What is answered to these bytes until the connection is closed, or 10 s are over."""
    host, _, port = gateway.url.removeprefix("http://").partition(":")
    reader, writer = await asyncio.open_connection(host, int(port))
    try:
        for piece in pieces:
            writer.write(piece)
            await asyncio.sleep(pause)
        async with asyncio.timeout(30):
            return await reader.read()
    finally:
        writer.close()


GET = b"GET /v1/sessions HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer key-a\r\n"


@pytest.mark.parametrize(
    "head",
    [
        [GET + b"X-Large: " + b"x" * 1_000_000 + b"\r\n\r\n"],
        [GET, *[b"X-Endless: " + b"x" * 60_000] * 20],
        [GET, *[b"X-%d: y\r\n" % n for n in range(5_000)], b"\r\n"],
        [b"GET /" + b"x" * 100_000 + b" HTTP/1.1\r\n\r\n"],
        [GET + b"".join(b"X-%d: y\r\n" % n for n in range(199)) + b"\r\n"],
    ],
    ids=["one of 1 MB", "one without end", "5,000 headers", "a long path", "201 headers"],
)
async def test_a_head_beyond_64_kib_or_200_headers_is_a_431(
    parts: tuple[GatewayProcess, int], head: list[bytes]
) -> None:
    answer = await _raw(parts[0], *head)
    assert answer.startswith(b"HTTP/1.1 431 ")
    assert b"urn:turnstile:problem:head_too_large" in answer


async def test_a_large_head_and_many_pipelined_requests_are_taken(
    parts: tuple[GatewayProcess, int],
) -> None:
    large = GET + b"X-Large: " + b"x" * 60_000 + b"\r\n\r\n"
    many = GET + b"".join(b"X-%d: y\r\n" % n for n in range(190)) + b"\r\n"
    last = GET + b"Connection: close\r\n\r\n"
    answer = await _raw(parts[0], large + many + large + last)
    assert answer.count(b"HTTP/1.1 200 ") == 4


async def test_a_head_that_never_ends_is_given_up(parts: tuple[GatewayProcess, int]) -> None:
    began = time.monotonic()
    answer = await _raw(parts[0], GET)
    assert answer.startswith(b"HTTP/1.1 408 ")
    assert time.monotonic() - began < 25


async def test_what_is_no_http_is_a_problem_too(parts: tuple[GatewayProcess, int]) -> None:
    answer = await _raw(parts[0], b"hello\r\n\r\n")
    assert answer.startswith(b"HTTP/1.1 400 ")
    assert b"urn:turnstile:problem:invalid_request" in answer
