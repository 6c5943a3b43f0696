"""Retention by tenant and kind, as the engine carries it out."""

from __future__ import annotations

from collections.abc import Iterator

import clickhouse_connect
import pytest
from clickhouse_connect.driver.client import Client

from infra.clickhouse.migrate import migrate
from infra.clickhouse.rebuild import Rebuild, chosen
from infra.clickhouse.retention import TABLES
from services.recorder.archive import ClickHouseWriter
from shared.retention import read
from tests.clickhouse_rows import event, turn
from tests.clickhouse_server import fresh_database, shared_clickhouse

pytestmark = pytest.mark.integration

RULES = "*=100d, acme=60d, acme/agent.thinking=7d, */span.*=30d, beta=forever, beta/span.*=forever"
KINDS = ["agent.thinking", "agent.tool_use", "span.model_request_end", "turn.completed"]
AGES = [2, 10, 40, 80, 200]
# Tenant and kind to the greatest age in days that stays.
KEPT = {
    ("acme", "agent.thinking"): 2,
    ("acme", "agent.tool_use"): 40,
    ("acme", "span.model_request_end"): 10,
    ("acme", "turn.completed"): 40,
    ("beta", "agent.thinking"): 200,
    ("beta", "agent.tool_use"): 200,
    ("beta", "span.model_request_end"): 200,
    ("beta", "turn.completed"): 200,
    ("other", "agent.thinking"): 80,
    ("other", "agent.tool_use"): 80,
    ("other", "span.model_request_end"): 10,
    ("other", "turn.completed"): 80,
}


@pytest.fixture
def client() -> Iterator[Client]:
    """On a migrated database with one event of each tenant, kind and age, each in a session of its own."""
    url = fresh_database(shared_clickhouse().url)
    migrate(url, say=lambda step: None)
    client = clickhouse_connect.get_client(dsn=url, autogenerate_session_id=False)
    days = client.query(
        "SELECT formatDateTime(now() - toIntervalDay(number), '%FT%TZ') FROM numbers(201)"
    ).result_columns[0]
    rows = [
        event(
            1,
            kind,
            turn("completed") if kind.startswith("turn") else '{"id": "x"}',
            tenant_id=tenant,
            session_id=f"{kind}-{age}",
            at=days[age],
        )
        for tenant, kind in KEPT
        for age in AGES
    ]
    writer = ClickHouseWriter(url, timeout=60)
    writer.insert(b"".join(rows))
    writer.close()
    yield client
    client.command(f"DROP DATABASE {client.database}")
    client.close()


def address(client: Client) -> str:
    return shared_clickhouse().url.rsplit("/", 1)[0] + f"/{client.database}"


def expired(client: Client) -> None:
    for table in TABLES:
        client.command(f"OPTIMIZE TABLE {table} FINAL")


def ages(client: Client, sql: str) -> dict[tuple[str, str], list[int]]:
    return {(tenant, kind): sorted(found) for tenant, kind, found in client.query(sql).result_rows}


EVENTS = (
    "SELECT tenant_id, type, groupArray(toUInt32(splitByChar('-', session_id)[2]))"
    " FROM session_events GROUP BY ALL"
)
DERIVED = {
    "turns": "turn.completed",
    "tool_calls": "agent.tool_use",
    "model_requests": "span.model_request_end",
}


def test_exactly_the_rows_go_whose_time_is_over(client: Client) -> None:
    migrate(address(client), rules=read(RULES), say=lambda step: None)
    expired(client)
    wanted = {key: [age for age in AGES if age <= oldest] for key, oldest in KEPT.items()}
    assert ages(client, EVENTS) == wanted
    for table, kind in DERIVED.items():
        sql = EVENTS.replace("session_events", table).replace("type", f"'{kind}'")
        assert ages(client, sql) == {key: ages for key, ages in wanted.items() if key[1] == kind}


def test_a_rule_may_be_changed_and_taken_away(client: Client) -> None:
    first = migrate(address(client), rules=read("*=500d"), say=lambda step: None)
    assert first[0] == "keep session_events *=500d"
    assert migrate(address(client), rules=read("*=500d"), say=lambda step: None) == []
    said = migrate(address(client), rules=read(RULES), dry_run=True, say=lambda step: None)
    assert "would keep model_requests beta=forever, *=30d" in said
    assert "would keep turns acme=60d, beta=forever, *=100d" in said
    assert len(migrate(address(client), rules=read(RULES), say=lambda step: None)) == len(said)
    assert migrate(address(client), rules=read(RULES), say=lambda step: None) == []
    gone = migrate(address(client), say=lambda step: None)
    assert "keep session_events for ever" in gone
    assert migrate(address(client), say=lambda step: None) == []


def test_a_rebuilt_table_keeps_its_retention(client: Client) -> None:
    migrate(address(client), rules=read(RULES), say=lambda step: None)
    Rebuild(client, chosen(client, ["turns"])[0], lambda line: None).run()
    assert migrate(address(client), rules=read(RULES), say=lambda step: None) == []
    client.command("OPTIMIZE TABLE turns FINAL")
    (oldest,) = client.query(
        "SELECT dateDiff('day', min(updated_at), now()) FROM turns WHERE tenant_id = 'acme'"
    ).result_rows[0]
    assert oldest <= 60
