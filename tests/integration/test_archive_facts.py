"""What the views tell of tool calls, model requests, sessions and days, row by row. Real engine."""

from __future__ import annotations

import json
from collections.abc import Iterator
from datetime import date
from decimal import Decimal
from pathlib import Path
from typing import Any

import clickhouse_connect
import pytest
from clickhouse_connect.driver.client import Client

from services.recorder.archive import ClickHouseWriter
from tests.clickhouse_archive import emptied_archive
from tests.clickhouse_rows import USAGE, event, turn

pytestmark = pytest.mark.integration
GOLDEN = sorted((Path(__file__).parents[1] / "golden" / "sessions" / "v0.1").glob("*.jsonl"))


class Archive:
    """A migrated database that was empty. `put` inserts events, each in a batch of its own."""

    def __init__(self, url: str) -> None:
        self.client: Client = clickhouse_connect.get_client(dsn=url, autogenerate_session_id=False)
        self._writer = ClickHouseWriter(url, timeout=60)

    def put(self, *events: bytes) -> None:
        for one in events:
            self._writer.insert(one)

    def rows(self, sql: str) -> list[dict[str, Any]]:
        return list(self.client.query(sql).named_results())

    def close(self) -> None:
        self.client.close()
        self._writer.close()


@pytest.fixture
def archive() -> Iterator[Archive]:
    archive = Archive(emptied_archive())
    yield archive
    archive.close()


def call(seq: int, ident: str, type_: str = "agent.tool_use", **data: Any) -> bytes:
    return event(seq, type_, json.dumps({"id": ident, "name": "search", **data}), at=second(seq))


def answer(seq: int, type_: str, **data: Any) -> bytes:
    return event(
        seq, type_, json.dumps({"id": f"answer_{seq}", **data}), at=second(seq), turn_id=""
    )


def second(number: float) -> str:
    return f"2026-11-21T10:00:{number:09.6f}Z"


@pytest.mark.parametrize("backwards", [False, True])
def test_tool_calls_are_rows_with_their_answers(archive: Archive, backwards: bool) -> None:
    events = [
        call(1, "one"),
        call(2, "two", "agent.mcp_tool_use"),
        call(3, "three", "agent.custom_tool_use", session_thread_id="sthr_1"),
        call(4, "four"),
        event(5, "user.tool_confirmation", '{"id": "c", "tool_use_id": "four", "result": "allow"}'),
        answer(6, "agent.tool_result", tool_use_id="one"),
        answer(7, "agent.mcp_tool_result", mcp_tool_use_id="two", is_error=True),
        answer(8, "user.custom_tool_result", custom_tool_use_id="three", text="\ud83d"),
        answer(9, "user.custom_tool_result", custom_tool_use_id="three", is_error=True),
        answer(10, "agent.tool_result", tool_use_id="never called"),
    ]
    archive.put(*(reversed(events) if backwards else events))
    columns = "tool_use_id, kind, tool_name, thread_id, turn_id, answered, is_error, seconds"
    found = archive.rows(f"SELECT {columns} FROM tool_call_facts ORDER BY called_at")
    assert [tuple(row.values()) for row in found] == [
        ("one", "builtin", "search", "", "t1", True, False, 5.0),
        ("two", "mcp", "search", "", "t1", True, True, 5.0),
        ("three", "custom", "search", "sthr_1", "t1", True, False, 5.0),
        ("four", "builtin", "search", "", "t1", False, False, None),
    ]
    assert archive.rows("SELECT tool_calls FROM session_facts") == [{"tool_calls": 4}]


def test_model_requests_are_rows_with_their_tokens(archive: Archive) -> None:
    def started(seq: int, ident: str, at: float, **fields: Any) -> bytes:
        data = json.dumps({"id": ident})
        return event(seq, "span.model_request_start", data, at=second(at), **fields)

    def ended(seq: int, start: str | None, at: float, **fields: Any) -> bytes:
        data = {"id": f"end_{seq}", "model_usage": USAGE, "model_request_start_id": start}
        if start is None:
            del data["model_request_start_id"]
        return event(
            seq, "span.model_request_end", json.dumps(data), at=second(at), model="m", **fields
        )

    def said(seq: int, at: float, **fields: Any) -> bytes:
        return event(seq, "agent.message", f'{{"id": "said_{seq}"}}', at=second(at), **fields)

    archive.put(
        said(1, 0.5),
        started(2, "first", 1),
        started(3, "child", 1, thread_id="sthr_1"),
        said(4, 1.5, thread_id="sthr_1"),
        said(5, 2.25),
        said(6, 3),
        ended(7, "first", 4),
        ended(8, "child", 5, thread_id="sthr_1"),
        started(9, "silent", 6),
        ended(10, "silent", 7),
        said(11, 8),
        ended(12, None, 9),
        started(13, "open", 10),
    )
    columns = "request_id, model, thread_id, seconds, first_token_seconds, input_tokens"
    found = archive.rows(f"SELECT {columns} FROM model_request_facts ORDER BY request_id")
    assert [tuple(row.values()) for row in found] == [
        ("child", "m", "sthr_1", 4.0, 0.5, 10),
        ("end_12", "m", "", None, None, 10),
        ("first", "m", "", 3.0, 1.25, 10),
        ("open", "", "", None, None, 0),
        ("silent", "m", "", 1.0, None, 10),
    ]
    rates = archive.rows("SELECT DISTINCT cache_hit_rate FROM model_request_facts ORDER BY 1")
    assert [row["cache_hit_rate"] for row in rates] == [30 / 80, None]


def test_the_share_of_the_cache_is_by_version_of_the_agent(archive: Archive) -> None:
    def started(seq: int, turn_id: str, version: int | None) -> bytes:
        data = json.loads(turn("running")) | {"agent": "agent_1", "model": "m"}
        data |= {} if version is None else {"agent_version": version}
        return event(seq, "turn.started", json.dumps(data), turn_id=turn_id)

    def asked(seq: int, turn_id: str | None, read: int, **more: Any) -> bytes:
        usage = {"input_tokens": 10, "cache_read_input_tokens": read, "output_tokens": 5}
        data = {"id": f"end_{seq}", "model_usage": usage, **more}
        body = json.dumps(data)
        return event(seq, "span.model_request_end", body, model="m", turn_id=turn_id)

    archive.put(
        started(1, "t1", 1),
        asked(2, "t1", 0),
        started(3, "t2", 1),
        started(4, "t2", 2),
        asked(5, "t2", 30),
        asked(6, "t2", 60),
        asked(7, "t2", 90, is_error=True),
        started(8, "t3", None),
        asked(9, "t3", 0),
        asked(10, None, 10),
    )
    columns = "agent, agent_version, model, requests, cache_hit_rate"
    found = archive.rows(f"SELECT {columns} FROM cache_hit_rates ORDER BY agent, agent_version")
    assert [tuple(row.values()) for row in found] == [
        ("", 0, "m", 1, 0.5),
        ("agent_1", 0, "m", 1, 0.0),
        ("agent_1", 1, "m", 1, 0.0),
        ("agent_1", 2, "m", 2, 90 / 110),
    ]


def test_no_duration_is_below_zero_whatever_the_clocks_say(archive: Archive) -> None:
    """Old events may have a publisher's clock at one end; clocks of ours and of the provider are set back."""
    ahead = turn(
        "completed",
        submitted_at="2026-11-21T19:00:00Z",
        first_token_at=second(1),
        ended_at=second(2),
    )
    archive.put(
        event(1, "turn.completed", ahead, at=second(2)),
        event(2, "agent.tool_use", '{"id": "call", "name": "search"}', at=second(9)),
        event(3, "agent.tool_result", '{"id": "r", "tool_use_id": "call"}', at=second(8)),
        event(4, "span.model_request_start", '{"id": "asked"}', at=second(9)),
        event(
            5,
            "span.model_request_end",
            '{"id": "e", "model_request_start_id": "asked"}',
            at=second(8),
        ),
    )
    columns = "queue_seconds, first_token_seconds, total_seconds"
    assert archive.rows(f"SELECT {columns} FROM turn_facts") == [
        {"queue_seconds": 0.0, "first_token_seconds": 0.0, "total_seconds": 0.0}
    ]
    assert archive.rows("SELECT seconds FROM tool_call_facts") == [{"seconds": 0.0}]
    assert archive.rows("SELECT seconds FROM model_request_facts") == [{"seconds": 0.0}]


def test_running_time_is_summed_over_provider_sessions_and_days(archive: Archive) -> None:
    def usage(seq: int, seconds: float | None, at: str) -> bytes:
        told = {} if seconds is None else {"active_seconds": seconds}
        return event(seq, "session.usage", json.dumps({"id": f"u{seq}", "usage": told}), at=at)

    archive.put(
        usage(1, 10.5, "2026-11-20T23:00:00Z"),
        usage(2, 30.0, "2026-11-21T01:00:00Z"),
        usage(3, 29.75, "2026-11-21T02:00:00Z"),  # the provider's clock goes back
        usage(4, None, "2026-11-21T02:30:00Z"),
        event(5, "session.rotated", "{}", at="2026-11-21T03:00:00Z"),
        usage(6, 3600.25, "2026-11-21T04:00:00Z"),
    )
    assert archive.rows("SELECT active_seconds, last_seq, events FROM session_facts") == [
        {"active_seconds": Decimal("3630"), "last_seq": 6, "events": 6}
    ]
    days = archive.rows("SELECT day, active_seconds, runtime_fee_usd FROM tenant_days ORDER BY day")
    assert [tuple(row.values()) for row in days] == [
        (date(2026, 11, 20), Decimal("10.5"), Decimal("0.000233")),
        (date(2026, 11, 21), Decimal("3619.5"), Decimal("0.080433")),
    ]


def test_a_turn_counts_on_the_days_it_was_submitted_and_ended(archive: Archive) -> None:
    began = turn("accepted", submitted_at="2026-11-20T23:59:00Z")
    done = turn("completed", 0.25, submitted_at="2026-11-20T23:59:00Z")
    archive.put(
        event(1, "turn.accepted", began, at="2026-11-20T23:59:00Z"),
        event(2, "turn.completed", done, at="2026-11-21T00:01:00Z"),
        event(
            3,
            "turn.started",
            turn("running", 9.0, turn_id="t2"),
            turn_id="t2",
            at="2026-11-21T00:02:00Z",
        ),
    )
    columns = "day, sessions, users, turns, completed, failed, cost_usd"
    found = archive.rows(f"SELECT {columns} FROM tenant_days ORDER BY day")
    assert [tuple(row.values()) for row in found] == [
        (date(2026, 11, 20), 1, 1, 1, 0, 0, Decimal(0)),
        (date(2026, 11, 21), 1, 1, 1, 1, 0, Decimal("0.25")),
    ]


def test_a_session_has_the_status_its_log_folds_to(archive: Archive) -> None:
    """Of every golden log; the core's own answer lies beside it."""
    wanted = {}
    for path in GOLDEN:
        lines = path.read_text().replace('"session_id":"s1"', f'"session_id":"{path.stem}"')
        archive.put(lines.encode())
        state = json.loads(path.with_suffix(".state.json").read_text())
        status = "archived" if state["status"] == "dormant" else state["status"]
        wanted[path.stem] = (status, state["last_seq"], state["last_seq"])
    found = archive.rows("SELECT session_id, status, last_seq, events FROM session_facts")
    assert {row.pop("session_id"): tuple(row.values()) for row in found} == wanted
    assert len({status for status, *_ in wanted.values()}) == 5


def charged(*lines: dict[str, Any]) -> str:
    about = {"provider_session_id": "sesn_1", "agent": "agent_1"}
    return json.dumps({**about, "lines": lines})


REQUEST = {
    "kind": "request", "source": "sevt_3", "model": "claude-opus-5", "price": "claude-opus-5@2026-07-24",
    "tokens": {"input_tokens": 10, "output_tokens": 20, "cache_read_tokens": 30, "cache_write_tokens": 40},
    "micro_usd": 123_456, "estimate": True,
}  # fmt: skip


def test_a_line_of_the_ledger_is_a_row_however_often_its_event_comes(archive: Archive) -> None:
    running = {"kind": "running", "source": "sevt_4", "active_ms": 4_500, "micro_usd": 100}
    told = event(4, "session.charged", charged(REQUEST, running), at=second(4))
    archive.put(told, told)
    columns = "seq, line, turn_id, user_id, agent, kind, model, price, cache_write_tokens, active_seconds, cost_usd"
    assert [tuple(row.values()) for row in archive.rows(f"SELECT {columns} FROM cost_facts ORDER BY line")] == [
        (4, 0, "t1", "u1", "agent_1", "request", "claude-opus-5", REQUEST["price"], 40, 0.0, Decimal("0.123456")),
        (4, 1, "t1", "u1", "agent_1", "running", "", "", 0, 4.5, Decimal("0.0001")),
    ]  # fmt: skip


def test_what_a_session_costs_between_turns_is_counted_once_and_beside_its_turns(
    archive: Archive,
) -> None:
    """What was brought forward is in the turns of before."""
    before = {"kind": "brought_forward", "micro_usd": 5_000_000}
    between = {"kind": "provider", "source": "sevt_9", "micro_usd": 7, "estimate": True}
    archive.put(
        event(4, "session.charged", charged(REQUEST), at="2026-11-20T10:00:00Z"),
        event(5, "turn.completed", turn("completed", 0.123456), at="2026-11-20T10:00:01Z"),
        event(
            6, "session.charged", charged(before, between), turn_id="", at="2026-11-21T10:00:00Z"
        ),
    )
    days = archive.rows("SELECT day, cost_usd FROM tenant_days ORDER BY day")
    assert [row["cost_usd"] for row in days] == [Decimal("0.123456"), Decimal("0.000007")]
    for view in ("session_facts", "events"):
        (found,) = archive.rows(f"SELECT sum(cost_usd) AS usd FROM {view}")
        assert found["usd"] == Decimal("0.123463"), view
