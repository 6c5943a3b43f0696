"""The operator's commands against a real broker and the real engine."""

import json
import socket
import time
from typing import Any

import clickhouse_connect
import pytest
from aiokafka import AIOKafkaProducer
from typer.testing import CliRunner, Result

from services.operator.dead_letter import DeadLetter
from services.operator.dead_letters import newest, one
from services.operator.failures import Impossible
from services.operator.main import build
from shared.bus.envelope import Envelope, dead_letter
from shared.bus.topics import DEAD
from tests.clickhouse_server import fresh_database, shared_clickhouse

pytestmark = pytest.mark.integration

_producer: Any = AIOKafkaProducer


def run(*arguments: str) -> Result:
    return CliRunner().invoke(build(), list(arguments))


async def bury(bootstrap: str, session: str, reasons: list[str]) -> list[tuple[int, int]]:
    """Dead letters as a service writes them; returns their places."""
    producer = _producer(bootstrap_servers=bootstrap, acks="all")
    await producer.start()
    places = []
    try:
        for number, reason in enumerate(reasons):
            envelope = Envelope(f"e{number}", "/test", "turn.requested", "", session)
            headers = dead_letter(
                envelope.headers(),
                reason=reason,
                detail=f"letter {number}",
                attempts=1,
                at="2026-11-21T10:00:00.000000Z",
                source=f"turnstile.inputs.v1/0/{number}",
            )
            value = b'{"content": 7}'
            sent = await producer.send_and_wait(DEAD.name, value, session.encode(), headers=headers)
            places.append((sent.partition, sent.offset))
    finally:
        await producer.stop()
    return places


async def test_the_newest_letters_are_listed_and_one_is_shown(kafka_bootstrap: str) -> None:
    places = await bury(kafka_bootstrap, "ses_list", ["bad_value", "unknown_tenant", "bad_value"])

    def wanted(letter: DeadLetter) -> bool:
        return letter.key == "ses_list" and letter.reason == "bad_value"

    found = await newest(kafka_bootstrap, {}, limit=10, scan=1000, wanted=wanted)
    assert [(letter.partition, letter.offset) for letter in found] == [places[0], places[2]]
    [last] = await newest(kafka_bootstrap, {}, limit=1, scan=1000, wanted=wanted)
    assert last.header("dead_detail") == "letter 2"
    shown = await one(kafka_bootstrap, {}, *places[1])
    assert shown.value == b'{"content": 7}'
    assert shown.reason == "unknown_tenant"


async def test_a_place_without_a_letter_says_what_there_is(kafka_bootstrap: str) -> None:
    [(partition, offset)] = await bury(kafka_bootstrap, "ses_gap", ["bad_value"])
    with pytest.raises(Impossible, match=f"to {offset}: no {offset + 1}"):
        await one(kafka_bootstrap, {}, partition, offset + 1)
    with pytest.raises(Impossible, match="no partition 99"):
        await one(kafka_bootstrap, {}, 99, 0)


@pytest.fixture(scope="module")
def archive_url() -> str:
    server = shared_clickhouse()
    deadline = time.monotonic() + 30
    while True:  # the server says it is ready a moment before it listens
        try:
            socket.create_connection((server.host, server.port), timeout=5).close()
            return fresh_database(server.url)
        except ConnectionRefusedError:
            if time.monotonic() > deadline:
                raise


def test_migrate_and_replay(archive_url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TURNSTILE_CLICKHOUSE_URL", archive_url)
    monkeypatch.setenv("TURNSTILE_TENANTS", "acme")
    planned = run("migrate", "--only", "clickhouse", "--dry-run")
    assert "would apply 0001_session_events" in planned.output
    assert run("migrate", "--only", "clickhouse").exit_code == 0
    assert "up to date" in run("migrate", "--only", "clickhouse").output

    insert_events(archive_url, count=1203)
    whole = run("replay", "ses_1")
    assert whole.exit_code == 0, whole.output
    assert [int(line.split()[0]) for line in whole.output.splitlines()] == list(range(1, 1204))
    some = run("replay", "ses_1", "--from", "2", "--to", "3", "--json")
    assert [json.loads(line)["data"]["n"] for line in some.output.splitlines()] == [2, 3]
    assert run("replay", "ses_unknown").exit_code == 1


def insert_events(url: str, *, count: int) -> None:
    rows = [
        {
            "tenant_id": "acme",
            "session_id": "ses_1",
            "seq": seq,
            "event_id": f"sevt_{seq}",
            "type": "agent.message",
            "turn_id": "t1",
            "user_id": "u1",
            "at": "2026-11-21T10:00:00.123456Z",
            "data": {"id": f"sevt_{seq}", "n": seq, "content": []},
        }
        for seq in range(1, count + 1)
    ]
    settings = {
        "input_format_json_read_objects_as_strings": 1,
        "date_time_input_format": "best_effort",
    }
    client = clickhouse_connect.get_client(dsn=url)
    body = "\n".join(map(json.dumps, rows)).encode()
    client.raw_insert("session_events", insert_block=body, fmt="JSONEachRow", settings=settings)
    client.close()
