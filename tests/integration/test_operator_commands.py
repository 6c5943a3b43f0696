"""The operator's commands against a real broker and the real engine."""

import json
import socket
import time
from typing import Any

import clickhouse_connect
import msgspec
import pytest
from aiokafka import AIOKafkaProducer
from clickhouse_connect.driver.exceptions import DatabaseError
from msgspec.structs import replace
from typer.testing import CliRunner, Result

from services.operator.archive import ArchiveReader
from services.operator.dead.letter import DeadLetter
from services.operator.dead.letters import newest, one
from services.operator.failures import Impossible
from services.operator.main import build
from services.operator.reruns.choice import agents_of, chosen
from shared.bus.envelope import Envelope, dead_letter
from shared.bus.topics import DEAD
from shared.session import Event, fold
from tests.clickhouse_server import fresh_database, shared_clickhouse
from tests.unit.operator.recordings import conversation

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


def test_the_archive_is_migrated_and_a_session_replayed(
    archive_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TURNSTILE_CLICKHOUSE_URL", archive_url)
    monkeypatch.setenv("TURNSTILE_TENANTS", "acme")
    planned = run("migrate", "--only", "clickhouse", "--dry-run")
    assert "would apply 0001_session_events" in planned.output
    assert run("migrate", "--only", "clickhouse").exit_code == 0
    assert "up to date" in run("migrate", "--only", "clickhouse").output

    insert_events(archive_url, count=1203)
    whole = run("replay", "ses_1", "--every")
    assert whole.exit_code == 0, whole.output
    assert [int(line.split()[0]) for line in whole.output.splitlines()] == list(range(1, 1204))
    some = run("replay", "ses_1", "--from", "2", "--to", "3", "--json")
    assert [json.loads(line)["data"]["n"] for line in some.output.splitlines()] == [2, 3]
    assert run("replay", "ses_unknown").exit_code == 1


def test_a_replay_goes_on_behind_a_gap(archive_url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """However wide: the archive may have lost events, or let old ones go."""
    monkeypatch.setenv("TURNSTILE_CLICKHOUSE_URL", archive_url)
    assert run("migrate", "--only", "clickhouse").exit_code == 0
    events = conversation()
    late = [replace(event, seq=event.seq + 9_000) for event in events[5:]]
    archive_events(archive_url, "ses_gap", [*events[2:5], *late])
    told = run("replay", "ses_gap", "--tenant", "acme", "--every").output.splitlines()
    assert [int(line.split()[0]) for line in told] == [3, 4, 5, *(event.seq for event in late)]


def test_a_session_that_was_erased_says_so(
    archive_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TURNSTILE_CLICKHOUSE_URL", archive_url)
    assert run("migrate", "--only", "clickhouse").exit_code == 0
    note = {
        "tenant_id": "acme",
        "session_id": "ses_gone",
        "asked_at": "2026-11-21 10:00:00",
        "version": 1,
    }
    client = clickhouse_connect.get_client(dsn=archive_url)
    client.raw_insert("erasures", insert_block=json.dumps(note).encode(), fmt="JSONEachRow")
    client.close()
    for command in ("replay", "state", "diff"):
        told = run(
            command, "ses_gone", *(["ses_gone"] if command == "diff" else []), "--tenant", "acme"
        )
        assert told.exit_code == (2 if command == "diff" else 1)
        assert "ses_gone was erased, as asked for at 2026-11-21T10:00:00Z" in told.output
    assert "no such events of ses_new" in run("replay", "ses_new", "--tenant", "acme").output


def test_replay_state_and_diff_show_what_the_core_makes_of_the_events(
    archive_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What the commands say is what the core makes of the events that were archived."""
    monkeypatch.setenv("TURNSTILE_CLICKHOUSE_URL", archive_url)
    monkeypatch.setenv("TURNSTILE_TENANTS", "acme")
    assert run("migrate", "--only", "clickhouse").exit_code == 0
    events = conversation()
    archive_events(archive_url, "ses_a", events)
    archive_events(archive_url, "ses_b", conversation(reply="badly"))

    story = run("replay", "ses_a")
    assert story.exit_code == 0, story.output
    assert "turn t2 · u1" in story.output
    assert "two files" in story.output
    for seq in range(1, len(events) + 1):
        then = json.loads(run("state", "ses_a", "--at-seq", str(seq), "--json").output)
        known = fold(events[:seq])
        assert (then["last_seq"], then["open_turn"]) == (seq, known.open_turn)
        assert then["cost_usd"] == known.cost_usd
    last, beyond_it = str(len(events)), str(len(events) + 1)
    assert f"last_seq             {last}" in run("state", "ses_a").output
    for beyond in (["state", "ses_a", "--at-seq", beyond_it], ["state", "ses_unknown"]):
        assert run(*beyond).exit_code == 1
    assert f"there is no seq {beyond_it}" in run("state", "ses_a", "--at-seq", beyond_it).output

    same = run("diff", "ses_a", "ses_a")
    assert (same.exit_code, same.output) == (0, "no difference\n")
    other = run("diff", "ses_a", "ses_b")
    assert (other.exit_code, "well → badly" in other.output) == (1, True)
    points = run("diff", "ses_a", "--from-seq", "3", "--to-seq", last, "--json")
    assert points.exit_code == 1
    assert json.loads(points.output)["b"] == {"session_id": "ses_a", "at_seq": len(events)}
    assert run("diff", "ses_a", "ses_unknown").exit_code == 2
    assert run("diff", "ses_a").exit_code == 2
    assert run("diff", "ses_a", "ses_b", "--from-seq", "1", "--to-seq", "2").exit_code == 2


def test_a_condition_for_a_rerun_chooses_sessions_and_can_do_nothing_else(
    archive_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TURNSTILE_CLICKHOUSE_URL", archive_url)
    assert run("migrate", "--only", "clickhouse").exit_code == 0
    for name in ("ses_x", "ses_y", "rerun:r1:ses_x"):
        archive_events(
            archive_url, name, conversation(answer="deny" if name == "ses_y" else "allow")
        )
    archive = ArchiveReader(archive_url)
    both = ["ses_x", "ses_y"]

    def wanted(where: str, where_session: str = "", limit: int = 10) -> list[str]:
        return chosen(
            archive,
            "acme",
            f"substring(session_id, -5) IN ('ses_x', 'ses_y') AND {where}",
            where_session,
            limit,
        )

    assert wanted("tool_calls > 0") == both
    assert wanted("tool_calls > 0 -- a remark") == both
    assert wanted("cost_usd > 1000") == []
    assert wanted("true", "session_id = 'ses_y' AND turns = 2") == ["ses_y"]
    assert wanted("true", limit=1) == ["ses_x"]
    assert wanted("true) OR (tenant_id = 'other'") == both  # whose sessions is not for it to say
    assert agents_of(archive, "acme", "r1") == {""}
    for statement in (
        "INSERT INTO turns (tenant_id) VALUES ('x')",
        "DROP TABLE turns",
        "SELECT 1 SETTINGS readonly = 0",
        "SELECT * FROM file('/etc/passwd', LineAsString)",
    ):
        with pytest.raises(DatabaseError):
            archive.chosen(statement)


def archive_events(url: str, session: str, events: list[Event]) -> None:
    """Put them there as the recorder does, under that session's id."""
    renamed = [msgspec.json.encode(replace(event, session_id=session)) for event in events]
    ArchiveReader(url).insert(renamed)


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
