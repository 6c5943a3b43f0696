"""The schema on the real engine: repeats, order, sums, and the bytes of `data`."""

from __future__ import annotations

import json
import random
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import clickhouse_connect
import pytest
from clickhouse_connect.driver.client import Client

from tests.clickhouse_archive import emptied_archive
from tests.clickhouse_rows import SETTINGS, a_turn, event, turn

pytestmark = pytest.mark.integration

STREAMS = Path(__file__).parents[3] / "shared" / "data" / "provider_streams.jsonl"


@pytest.fixture
def client() -> Iterator[Client]:
    """A client on a migrated database without rows."""
    client = clickhouse_connect.get_client(dsn=emptied_archive(), autogenerate_session_id=False)
    yield client
    client.close()


def insert(client: Client, rows: list[bytes]) -> None:
    client.raw_insert(
        "session_events", insert_block=b"".join(rows), fmt="JSONEachRow", settings=dict(SETTINGS)
    )


def ask_one(client: Client, sql: str) -> Any:
    return client.query(sql).result_rows[0]


SUMS = (
    "SELECT count(), sum(cost_usd), sum(input_tokens), sum(output_tokens), sum(cache_read_tokens),"
    " sum(cache_write_tokens) FROM events"
)
TURNS = "SELECT count(), any(status), sum(cost_usd), sum(input_tokens), any(seq) FROM turn_facts"


def assert_right(client: Client) -> None:
    count, cost, *tokens = ask_one(client, SUMS)
    assert (count, float(cost), tokens) == (6, 0.123456, [10, 20, 30, 40])
    turns, status, cost, tokens_in, seq = ask_one(client, TURNS)
    assert (turns, status, float(cost), tokens_in, seq) == (1, "completed", 0.123456, 1, 6)


def test_a_turn_is_read_out_of_its_events(client: Client) -> None:
    insert(client, a_turn())
    assert_right(client)
    (facts,) = client.query("SELECT * FROM turn_facts").named_results()
    seconds = [facts[f"{name}_seconds"] for name in ("queue", "first_token", "total")]
    assert seconds == [0.25, 1.0, 2.5]
    assert (facts["stop_reason"], facts["error_type"], facts["tool_calls"]) == ("end_turn", "", 5)
    assert (facts["cache_read_tokens"], facts["cache_write_tokens"]) == (3, 4)


def test_a_turn_has_the_times_of_its_first_token_and_of_its_first_output(client: Client) -> None:
    times: Any = {"first_token_at": "2026-11-21T10:00:01Z", "ended_at": "2026-11-21T10:00:02.5Z"}
    finished = turn("completed", first_output_at="2026-11-21T10:00:02Z", **times)
    insert(client, [event(1, "turn.completed", finished)])
    columns = "first_token_seconds, first_output_seconds"
    assert ask_one(client, f"SELECT {columns} FROM turn_facts") == (1.0, 2.0)
    insert(client, [event(2, "turn.failed", turn("failed", first_output_at=None, **times))])
    assert ask_one(client, f"SELECT {columns} FROM turn_facts") == (1.0, None)
    insert(client, [event(3, "turn.completed", turn("completed", **times))])
    of_before = ask_one(client, f"SELECT {columns} FROM turn_facts")
    assert of_before == (1.0, 1.0), "turns of before had one time for both"


def test_columns_come_from_type_and_data(client: Client) -> None:
    insert(client, a_turn())
    rows = client.query(
        "SELECT seq, provider_event_id, tool_name, is_error, toFloat64(cost_usd) FROM events"
        " ORDER BY seq"
    ).result_rows
    assert rows == [
        (1, "", "", False, 0.0),
        (2, "", "", False, 0.0),
        (3, "sevt_3", "", False, 0.0),
        (4, "sevt_4", "search", False, 0.0),
        (5, "sevt_5", "", True, 0.0),
        (6, "", "", False, 0.123456),
    ]


def test_turnstiles_own_events_have_no_provider_id(client: Client) -> None:
    own = ["opened", "rotated", "idled", "archived", "erased"]
    rows = [event(n, f"session.{name}", '{"id": "x"}') for n, name in enumerate(own, start=1)]
    insert(client, [*rows, event(6, "session.status_idle", '{"id": "sevt_6"}')])
    found = client.query("SELECT provider_event_id FROM events ORDER BY seq").result_columns[0]
    assert list(found) == [""] * 5 + ["sevt_6"]


def test_a_failed_turn_says_why(client: Client) -> None:
    failed = turn("failed", 0.5, error={"type": "overloaded", "message": "x"}, attempts=8)
    insert(client, [event(1, "turn.failed", failed)])
    sql = "SELECT status, error_type, attempts FROM turn_facts"
    assert ask_one(client, sql) == ("failed", "overloaded", 8)
    assert float(ask_one(client, "SELECT sum(cost_usd) FROM events")[0]) == 0.5


@pytest.mark.parametrize("cost", ["0.1", '"0.1"', "1e-1", "null", '"x"'])
def test_a_cost_is_read_in_any_writing(client: Client, cost: str) -> None:
    insert(client, [event(1, "turn.completed", f'{{"turn_id": "t1", "cost_usd": {cost}}}')])
    expected = 0.1 if "1" in cost else 0.0
    assert float(ask_one(client, "SELECT sum(cost_usd) FROM events")[0]) == expected
    assert float(ask_one(client, "SELECT sum(cost_usd) FROM turn_facts")[0]) == expected


def test_a_repeat_in_one_batch_is_seen_once(client: Client) -> None:
    rows = a_turn()
    insert(client, rows + rows[2:4])
    assert_right(client)


def test_a_batch_tried_again_is_seen_once(client: Client) -> None:
    for _ in range(3):
        insert(client, a_turn())
    assert_right(client)
    client.command("OPTIMIZE TABLE session_events FINAL")
    client.command("OPTIMIZE TABLE turns FINAL")
    assert ask_one(client, "SELECT count() FROM session_events") == (6,)
    assert ask_one(client, "SELECT count() FROM turns") == (1,)
    assert_right(client)


@pytest.mark.parametrize("seed", range(5))
def test_repeats_across_parts_and_out_of_order_are_seen_once(client: Client, seed: int) -> None:
    chance = random.Random(seed)
    rows = a_turn()
    batches = [rows[:2], rows[2:4], rows[4:], rows[1:3], rows[5:], rows[:1]]
    chance.shuffle(batches)
    for batch in batches:
        insert(client, batch)
    assert_right(client)


def test_months_lie_in_their_own_partitions(client: Client) -> None:
    rows = [
        event(1, "agent.message", at="2026-10-31T23:59:59.999999Z"),
        event(2, "agent.message", at="2026-11-01T00:00:00.000001+00:00"),
    ]
    insert(client, rows + rows)
    insert(client, rows)
    sql = "SELECT uniqExact(_partition_id) FROM session_events"
    assert ask_one(client, sql) == (2,)
    assert client.query(
        "SELECT seq, toString(at) FROM events ORDER BY seq"
    ).result_rows == [(1, "2026-10-31 23:59:59.999999"), (2, "2026-11-01 00:00:00.000001")]  # fmt: skip


def test_one_session_id_of_two_tenants_is_two_sessions(client: Client) -> None:
    insert(client, a_turn())
    insert(client, [event(1, "turn.failed", turn("failed"), tenant_id="beta")])
    rows = client.query("SELECT tenant_id, status FROM turn_facts ORDER BY tenant_id").result_rows
    assert rows == [("acme", "completed"), ("beta", "failed")]


def test_absent_null_and_unknown_fields_leave_columns_empty(client: Client) -> None:
    row = (
        b'{"tenant_id": "acme", "session_id": "s", "seq": 1, "event_id": "e", "type": "user.message",'
        b' "turn_id": null, "at": "2026-11-21T10:00:00Z", "data": {}, "later": {"a": [1]}}\n'
    )
    insert(client, [row])
    sql = "SELECT turn_id, user_id, thread_id, model, trace_id, data FROM events"
    assert ask_one(client, sql) == ("", "", "", "", "", "{}")


ODD = [
    '{ "b" :1,\t"a": {"c":[ 1 , 2 ]} }',
    '{"text": "caf\\u00e9 \\ud83d\\ude00 \\/ \\u0000 \\t"}',
    '{"text": "café 😀 𝔘 עברית"}',
    '{"big": 123456789012345678901234567890.000, "small": 1.0e-400, "exp": 1E5}',
    '{"twice": 1, "twice": 2}',
    '{"half": "\\ud83d", "id": "sevt_9", "name": "n"}',
    '{"huge": 1e999, "minus": -0}',
    '{"quote": "\\"{[}]", "slash": "\\\\"}',
    '{"deep": ' + "[" * 500 + "]" * 500 + "}",
    "{}",
]


def test_data_keeps_its_bytes(client: Client) -> None:
    insert(client, [event(n, "agent.message", data) for n, data in enumerate(ODD, start=1)])
    kept = client.query("SELECT data FROM events ORDER BY seq").result_columns[0]
    assert list(kept) == ODD


def test_half_a_surrogate_pair_hides_nothing(client: Client) -> None:
    odd = '{"half": "\\ud83d", "id": "sevt_9", "name": "n", "is_error": true}'
    insert(client, [event(1, "agent.tool_use", odd)])
    insert(client, [event(2, "turn.completed", turn("completed", 0.5)[:-1] + ', "x": "\\ud83d"}')])
    sql = "SELECT provider_event_id, tool_name, is_error FROM events WHERE seq = 1"
    assert ask_one(client, sql) == ("sevt_9", "n", True)
    assert ask_one(client, "SELECT status FROM turn_facts") == ("completed",)


@pytest.mark.skipif(not STREAMS.exists(), reason="recorded streams are not on this machine")
def test_recorded_provider_events_keep_their_bytes_and_ids(client: Client) -> None:
    events = [json.loads(line)["event"] for line in STREAMS.read_text().splitlines()]
    texts = [json.dumps(one, ensure_ascii=bool(n % 2)) for n, one in enumerate(events)]
    rows = [event(n, events[n]["type"], text) for n, text in enumerate(texts)]
    insert(client, rows)
    found = client.query("SELECT data, provider_event_id FROM events ORDER BY seq").result_columns
    assert list(found[0]) == texts
    assert list(found[1]) == [one.get("id", "") for one in events]


def test_spans_give_the_time_range_of_their_trace(client: Client) -> None:
    span = {
        "Timestamp": "2026-11-21T10:00:00.5Z",
        "TraceId": "a" * 32,
        "SpanId": "b" * 16,
        "SpanName": "POST",
        "ServiceName": "gateway",
        "SpanAttributes": {"k": "v"},
        "Duration": 1_500_000,
        "Events.Timestamp": ["2026-11-21T10:00:00.6Z"],
        "Events.Name": ["e"],
        "Events.Attributes": [{"a": "b"}],
    }
    client.raw_insert(
        "otel_traces",
        insert_block=json.dumps(span).encode(),
        fmt="JSONEachRow",
        settings={"date_time_input_format": "best_effort"},
    )
    sql = "SELECT SpanAttributes['k'], Duration, Events.Name FROM otel_traces"
    assert ask_one(client, sql) == ("v", 1_500_000, ["e"])
    sql = "SELECT count() FROM otel_traces_trace_id_ts WHERE TraceId = repeat('a', 32)"
    assert ask_one(client, sql) == (1,)
