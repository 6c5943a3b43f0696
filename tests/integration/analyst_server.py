"""A server with three weeks of synthetic sessions, and the document's questions to it."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import date, datetime
from pathlib import Path
from typing import Any

import pytest

from infra.clickhouse.migrate import migrate
from tests.clickhouse_rows import SETTINGS
from tests.clickhouse_server import Running, ask, start_clickhouse, stop_clickhouse
from tests.integration.analyst_log import Log, Rows
from tests.synthetic.copies import Plan, sessions
from tests.synthetic.loading import load

PLAN = Plan(events=25_000, patterns=200, days=20, until=date(2026, 11, 10), tenants=3, users=40)
NOW = datetime(2026, 11, 11)


def acme_log() -> Log:
    """The events of the tenant of the document."""
    lines = (line for text, _ in sessions(PLAN) for line in text.splitlines())
    return Log((line for line in lines if line.startswith(b'{"tenant_id":"acme"')), NOW)


@contextmanager
def analyst_server(path: Path, log: Log, **environment: str) -> Iterator[Running]:
    """A server whose database has the name of the document; a tenth of the events came in twice.

    `environment`: variables of its process besides our own.
    """
    running = start_clickhouse(path, environment=environment)
    try:
        migrate(running.url, say=lambda step: None)
        load(running.url, PLAN, 5_000, lambda words: None)
        again = b"\n".join(json.dumps(e).encode() for e in log.events[::10])
        insert = {"query": "INSERT INTO turnstile.session_events FORMAT JSONEachRow"}
        assert ask(running.base, again, insert | SETTINGS).status == 200
        table = "turnstile.otel_traces (Timestamp, TraceId, SpanName, ServiceName, Duration)"
        for name, duration in (("POST", 1_500_000), ("invoke_agent", 9_000_000)):
            row = f"'{NOW}', '{first_turn(log)['trace_id']}', '{name}', 'gateway', {duration}"
            assert ask(running.base, f"INSERT INTO {table} VALUES ({row})").status == 200
        yield running
    finally:
        stop_clickhouse(running)


def first_turn(log: Log) -> dict[str, Any]:
    """The event that accepts the first turn of a session with one turn only."""
    turns = [turn["session_id"] for turn in log.turns]
    return next(
        e for e in log.events if e["type"] == "turn.accepted" and turns.count(e["session_id"]) == 1
    )


def asked_of(log: Log, sql: str) -> str:
    """A question of the document, at a time and of a session that the log has."""
    sql = sql.replace("now()", f"toDateTime('{NOW}', 'UTC')")
    return sql.replace("ses_1", first_turn(log)["session_id"])


def answer(server: Running, sql: str) -> Rows:
    """The rows by plain HTTP, as the analyst."""
    given = ask(server.base, sql, user="analyst", default_format="JSONCompactEachRow")
    assert given.status == 200, given.body
    return [json.loads(line) for line in given.body.splitlines()]


def near(found: Any, expected: Any) -> bool:
    """Equal but for the last digits of what was divided, and for how a client writes it."""
    if isinstance(expected, list):
        return len(found) == len(expected) and all(map(near, found, expected))
    if isinstance(expected, int | float) and not isinstance(expected, bool):
        return found is not None and bool(
            float(found) == pytest.approx(expected, rel=1e-6, abs=2e-6)
        )
    if isinstance(expected, str) and found != expected:
        return _moment(found) == _moment(expected) is not None
    return bool(found == expected)


def _moment(text: Any) -> datetime | None:
    """Of a time in UTC, whether it says so or not."""
    try:
        return datetime.fromisoformat(text).replace(tzinfo=None)
    except (TypeError, ValueError):
        return None
