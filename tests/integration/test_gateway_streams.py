"""The seam between archive, log and live, on a real broker and the real engine."""

from __future__ import annotations

import asyncio
import itertools
import socket
import time
from collections.abc import AsyncIterator, Sequence
from datetime import timedelta
from typing import Any

import clickhouse_connect
import pytest
from aiokafka import AIOKafkaProducer

from infra.local.processes import read_pid
from services.gateway.main import listening
from services.gateway.settings import HttpSettings
from shared.bus.envelope import Envelope
from shared.bus.topics import EVENTS, PREVIEWS
from shared.clock import utcnow
from tests.bench.process import MIB, resident
from tests.clickhouse_server import fresh_database
from tests.e2e.refused import assert_refused, refusal
from tests.family import children_of, paused
from tests.integration.gateway_process import GatewayProcess, gateway_process
from tests.stack import fresh_database as fresh_sql
from tests.stack import running_parts
from tests.unit.gateway.desk import an_event

pytestmark = pytest.mark.integration
JSON = {"Accept": "application/json"}
STREAM_SECONDS = 6
INSERT = {
    "input_format_json_read_objects_as_strings": 1,
    "input_format_skip_unknown_fields": 1,
    "date_time_input_format": "best_effort",
}
_numbers = itertools.count(1)


class Bench:
    """One gateway, and hands on both sides of it: the worker's and the recorder's."""

    def __init__(self, gateway: GatewayProcess, kafka: str, clickhouse_url: str) -> None:
        self.gateway = gateway
        self._clickhouse_url = clickhouse_url
        make: Any = AIOKafkaProducer
        self.producer = make(bootstrap_servers=kafka, acks="all")

    async def session(self) -> str:
        session_id = f"ses_{next(_numbers)}"
        async with self.gateway.client() as client:
            wish = {"user_id": "u1", "session_id": session_id}
            assert (await client.post("/v1/sessions", json=wish)).status_code == 201
        return session_id

    def events(self, session_id: str, first: int, last: int) -> list[bytes]:
        """Events as a worker makes them; the data's spacing must survive."""
        at = utcnow()
        return [
            an_event(
                seq,
                data={"id": f"sevt_{seq}", "type": "agent.message", "text": f"é😀 {seq}"},
                key=("acme", session_id),
                at=at + timedelta(milliseconds=seq),
            )
            for seq in range(first, last + 1)
        ]

    async def publish(self, session_id: str, values: Sequence[bytes]) -> None:
        for value in values:
            headers = Envelope("e", "t", "x", "", session_id).headers()
            await self.producer.send_and_wait(
                EVENTS.name, value, key=session_id.encode(), headers=headers
            )

    async def archive(self, values: Sequence[bytes]) -> None:
        def insert() -> None:
            client = clickhouse_connect.get_client(dsn=self._clickhouse_url)
            client.raw_insert(
                "session_events",
                insert_block=b"\n".join(values),
                fmt="JSONEachRow",
                settings=INSERT,
            )

        await asyncio.to_thread(insert)


@pytest.fixture(scope="module")
async def bench(
    kafka_bootstrap: str, postgres_url: str, clickhouse_url: str
) -> AsyncIterator[Bench]:
    database = fresh_database(clickhouse_url)
    async with gateway_process(kafka_bootstrap, postgres_url, database) as gateway:
        bench = Bench(gateway, kafka_bootstrap, database)
        await bench.producer.start()
        yield bench
        await bench.producer.stop()


async def test_a_stream_is_whole_when_half_is_archived_and_half_on_the_log(bench: Bench) -> None:
    session = await bench.session()
    early, late = bench.events(session, 1, 300), bench.events(session, 301, 600)
    await bench.publish(session, early)
    await bench.archive(early[:150])
    path = f"/v1/sessions/{session}/events"
    async with bench.gateway.events(path) as events:
        feed = asyncio.create_task(bench.publish(session, [*early[-5:], *late]))
        seen = [await anext(events) for _ in range(600)]
        await feed
    assert [int(record["id"]) for record in seen] == list(range(1, 601))
    assert [record["data"].encode() for record in seen] == early + late
    # Archived or not, the same bytes.
    await bench.archive(early + late)
    async with bench.gateway.client() as client:
        page = await client.get(f"{path}?limit=1000", headers=JSON)
    assert page.content == b'{"data":[%b],"next_after":600}' % b",".join(early + late)


async def test_a_new_gateway_reads_what_only_the_log_has(
    bench: Bench, kafka_bootstrap: str, postgres_url: str
) -> None:
    session = await bench.session()
    values = bench.events(session, 1, 40)
    await bench.publish(session, values)
    await bench.archive(values[:10])
    await bench.gateway.seqs(f"/v1/sessions/{session}/events", 40)
    async with gateway_process(kafka_bootstrap, postgres_url, bench._clickhouse_url) as second:
        path = f"/v1/sessions/{session}/events"
        assert await second.seqs(path, 40) == list(range(1, 41))
        resumed = await second.seqs(path, 5, {"Last-Event-ID": "35"})
        assert resumed == list(range(36, 41))
        async with second.client() as client:
            replay = await client.get(f"/v1/sessions/{session}/replay?speed=0&from_seq=5")
        assert replay.text.count("\nid: ") + replay.text.startswith("id: ") == 36
        assert replay.text.endswith("event: end\ndata: {}\n\n")


async def test_an_archive_that_never_saw_the_session_does_not_matter(
    kafka_bootstrap: str, postgres_url: str, bench: Bench
) -> None:
    session = await bench.session()
    await bench.publish(session, bench.events(session, 1, 20))
    path = f"/v1/sessions/{session}/events"
    await bench.gateway.seqs(path, 20)
    nowhere = {"TURNSTILE_CLICKHOUSE_URL": "http://default:@127.0.0.1:1/turnstile"}
    async with gateway_process(
        kafka_bootstrap, postgres_url, bench._clickhouse_url, **nowhere
    ) as blind:
        assert await blind.seqs(path, 20) == list(range(1, 21))


async def test_a_client_that_does_not_read_gets_everything_later(bench: Bench) -> None:
    session = await bench.session()
    path = f"/v1/sessions/{session}/events"
    filler = "x" * 20_000
    values = [
        an_event(seq, data={"id": "s", "t": filler}, key=("acme", session), at=utcnow())
        for seq in range(1, 1_201)
    ]
    async with bench.gateway.events(path) as events:
        await bench.publish(session, values[:1])
        assert (await anext(events))["id"] == "1"
        await bench.publish(session, values[1:])  # 24 MB: more than sockets and queue hold
        ids = [int((await anext(events))["id"]) for _ in range(1_199)]
    assert ids == list(range(2, 1_201))
    async with bench.gateway.client() as client:
        metrics = (await client.get("/metrics")).text
    assert "turnstile_sse_slow_clients_total 0.0" not in metrics


async def test_previews_reach_a_stream(bench: Bench) -> None:
    session = await bench.session()
    start = b'{"tenant_id":"acme","session_id":"%b","type":"event_start","number":0,"data":{%b}}'
    async with bench.gateway.events(f"/v1/sessions/{session}/events?previews=true") as events:
        first = asyncio.ensure_future(anext(events))
        sent = list[bytes]()
        while not first.done():
            sent.append(start % (session.encode(), b'"event":{"id":"m%d"}' % len(sent)))
            await bench.producer.send_and_wait(PREVIEWS.name, sent[-1], key=session.encode())
            await asyncio.wait({first}, timeout=0.05)
        heard = first.result()
        assert (heard["event"], heard["data"].encode() in sent) == ("event_start", True)


async def test_a_gateway_stops_in_time_with_streams_open(
    kafka_bootstrap: str, postgres_url: str, bench: Bench
) -> None:
    session = await bench.session()
    async with (
        gateway_process(kafka_bootstrap, postgres_url, bench._clickhouse_url) as gateway,
        gateway.events(f"/v1/sessions/{session}/events") as events,
    ):
        reading = asyncio.ensure_future(anext(events, None))
        assert await gateway.stop() < 8
        assert await asyncio.wait_for(reading, 5) is None


async def test_a_cursor_ahead_of_the_log_is_a_400_with_the_last_seq(bench: Bench) -> None:
    session = await bench.session()
    values = bench.events(session, 1, 20)
    await bench.publish(session, values)
    await bench.archive(values)
    path = f"/v1/sessions/{session}/events"
    await bench.gateway.seqs(path, 20)
    async with bench.gateway.client() as client:
        for headers in ({}, JSON):
            answer = await client.get(path, headers={"Last-Event-ID": "5000", **headers})
            assert_refused(answer, 400, "cursor_ahead")
            assert refusal(answer)["last_seq"] == 20


async def test_a_closed_sessions_stream_ends_and_a_reconnect_at_its_end_is_204(
    bench: Bench,
) -> None:
    session = await bench.session()
    key, path = ("acme", session), f"/v1/sessions/{session}/events"
    closed = [
        an_event(
            2, "session.archived", {"reason": "requested"}, key=key, turn_id=None, at=utcnow()
        ),
        an_event(3, "session.status_terminated", key=key, turn_id=None, at=utcnow()),
    ]
    async with bench.gateway.events(path) as events:
        await bench.publish(session, bench.events(session, 1, 1))
        assert (await anext(events))["id"] == "1"
        await bench.publish(session, closed)
        assert [(await anext(events))["id"] for _ in closed] == ["2", "3"]
        assert (await anext(events))["event"] == "end"
        assert await anext(events, None) is None
    async with bench.gateway.client() as client, asyncio.timeout(60):
        # Until the session's row says so too, a stream begins and ends once it does.
        while (again := await client.get(path, headers={"Last-Event-ID": "3"})).status_code != 204:
            assert again.text.endswith("event: end\ndata: {}\n\n")


async def test_large_pages_end_at_8_mib_and_four_at_once_leave_memory_flat(bench: Bench) -> None:
    session = await bench.session()
    path, filler = f"/v1/sessions/{session}/events", "x" * 1_000_000
    values = [
        an_event(seq, data={"id": "s", "t": filler}, key=("acme", session), at=utcnow())
        for seq in range(1, 61)
    ]
    await bench.archive(values)
    await bench.publish(session, values[-1:])
    await bench.gateway.seqs(path, 1, {"Last-Event-ID": "59"})

    async def read_all(client: Any) -> list[int]:
        seqs, after = list[int](), 0
        while after < 60:
            page = await client.get(f"{path}?limit=1000&after={after}", headers=JSON)
            assert page.status_code == 200, page.text
            assert len(page.content) < 9.1 * MIB + 1_000_000
            body = page.json()
            seqs += [event["seq"] for event in body["data"]]
            after = body["next_after"]
        return seqs

    async with bench.gateway.client() as client:
        assert await read_all(client) == list(range(1, 61))
        before = resident(bench.gateway.process.pid)
        found = await asyncio.gather(*(read_all(client) for _ in range(4)))
    assert found == [list(range(1, 61))] * 4
    assert resident(bench.gateway.process.pid) - before < 160 * MIB


async def test_a_client_that_never_reads_is_cut_off_and_its_place_is_free(
    kafka_bootstrap: str, postgres_url: str, bench: Bench
) -> None:
    session = await bench.session()
    path, filler = f"/v1/sessions/{session}/events", "x" * 500_000
    limits = {"TURNSTILE_GATEWAY_STALL_SECONDS": "1", "TURNSTILE_GATEWAY_TENANT_STREAMS": "1"}
    async with gateway_process(
        kafka_bootstrap, postgres_url, bench._clickhouse_url, **limits
    ) as gateway:
        with socket.socket() as deaf:
            deaf.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
            deaf.connect(("127.0.0.1", int(gateway.url.rpartition(":")[2])))
            request = f"GET {path} HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer key-a\r\n\r\n"
            deaf.sendall(request.encode())
            async with gateway.client() as client:
                async with asyncio.timeout(60):
                    while "turnstile_sse_streams 1.0" not in (await client.get("/metrics")).text:
                        pass
                assert (await client.get(path)).status_code == 429  # the share is one
                async with gateway.client("key-b") as other:
                    assert_refused(await other.get(path), 404, "unknown_session")
                for seq in range(1, 41):
                    value = an_event(seq, data={"t": filler}, key=("acme", session), at=utcnow())
                    await bench.publish(session, [value])
                async with asyncio.timeout(60):
                    while "turnstile_sse_streams 0.0" not in (await client.get("/metrics")).text:
                        pass
                assert "turnstile_sse_stalled_total 1.0" in (await client.get("/metrics")).text


async def read_out(gateway: GatewayProcess, path: str, after: int, until: int) -> list[int]:
    """The ids of events over as many streams as it takes: each is read to its clean end, the next resumes there.
    The one that brought the last of them lasted as long as streams may, or a tenth less."""
    seen = [after]
    while seen[-1] < until:
        began = time.monotonic()
        async with gateway.events(path, {"Last-Event-ID": str(seen[-1])}) as events:
            seen += [int(record["id"]) async for record in events]
    assert time.monotonic() - began >= 0.9 * STREAM_SECONDS
    return seen[1:]


async def test_a_stream_ends_cleanly_at_its_greatest_age_and_resumes(
    kafka_bootstrap: str, postgres_url: str, bench: Bench
) -> None:
    session = await bench.session()
    path = f"/v1/sessions/{session}/events"
    await bench.publish(session, bench.events(session, 1, 3))
    await bench.gateway.seqs(path, 3)
    limits = {"TURNSTILE_GATEWAY_STREAM_SECONDS": str(STREAM_SECONDS)}
    async with gateway_process(
        kafka_bootstrap, postgres_url, bench._clickhouse_url, **limits
    ) as gateway:
        assert await read_out(gateway, path, 0, 3) == [1, 2, 3]
        await bench.publish(session, bench.events(session, 4, 4))
        assert await read_out(gateway, path, 3, 4) == [4]


async def test_a_stream_waits_with_comments_for_a_database_that_is_away(
    kafka_bootstrap: str, bench: Bench
) -> None:
    async with running_parts("postgres") as settings:
        server = f"postgresql+asyncpg://postgres@127.0.0.1:{settings.ports['postgres']}/"
        database = read_pid(settings.folders.pid_file("postgres"))
        assert database is not None
        async with (
            fresh_sql(server) as url,
            gateway_process(kafka_bootstrap, url, bench._clickhouse_url) as gateway,
            gateway.client() as client,
        ):
            session = f"ses_{next(_numbers)}"
            wish = {"user_id": "u1", "session_id": session}
            assert (await client.post("/v1/sessions", json=wish)).status_code == 201
            path = f"/v1/sessions/{session}/events"
            await bench.publish(session, bench.events(session, 1, 2))
            await gateway.seqs(path, 2)
            with paused(database, *children_of(database)) as going_on:
                async with client.stream("GET", path) as answer:
                    assert answer.status_code == 200
                    lines = answer.aiter_lines()
                    assert await anext(lines) == "retry: 2000"
                    assert await anext(lines) == ""
                    assert (await anext(lines)).startswith(":")
                    going_on()
                    ids = [line async for line in _first(lines, "id: ", 2)]
                    assert ids == ["id: 1", "id: 2"]


def test_connections_notice_a_peer_that_is_gone() -> None:
    with listening(HttpSettings(gateway_port=0))[0] as server:
        server.listen()
        with socket.create_connection(server.getsockname()), server.accept()[0] as accepted:
            tcp = socket.IPPROTO_TCP
            assert accepted.getsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE)
            probing = accepted.getsockopt(tcp, socket.TCP_KEEPIDLE) + accepted.getsockopt(
                tcp, socket.TCP_KEEPINTVL
            ) * accepted.getsockopt(tcp, socket.TCP_KEEPCNT)
            assert probing <= 120
            assert accepted.getsockopt(tcp, socket.TCP_USER_TIMEOUT) <= 120_000


async def _first(lines: AsyncIterator[str], start: str, count: int) -> AsyncIterator[str]:
    async for line in lines:
        if line.startswith(start):
            yield line
            count -= 1
            if not count:
                return
