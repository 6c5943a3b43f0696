"""`turnstile cost caps` on a real database: set, listed, changed, removed, and what it refuses."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path

import pytest
from sqlalchemy import create_engine, insert
from typer.testing import CliRunner, Result

from infra.postgres.migrate import migrate_async
from services.operator.main import build
from shared.tables.caps import CAP_ACCOUNTS, RESERVATIONS
from shared.tables.worker import LEDGER

pytestmark = pytest.mark.contract
LINE = {
    "tenant_id": "acme",
    "session_id": "s1",
    "line": 0,
    "at": "2026-11-30T10:00:00.000000Z",
    "turn_id": "t1",
    "user_id": "u1",
    "agent": "",
    "provider_session_id": "",
    "kind": "request",
    "source": "",
    "thread_id": "",
    "model": "",
    "price": "",
    "input_tokens": 0,
    "output_tokens": 0,
    "cache_read_tokens": 0,
    "cache_write_tokens": 0,
    "cache_hour_tokens": 0,
    "active_ms": 0,
    "estimate": False,
}


@pytest.fixture
def file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """A migrated database, which the commands use."""
    place = f"{tmp_path}/caps.db"
    asyncio.run(migrate_async(f"sqlite+aiosqlite:///{place}"))
    monkeypatch.setenv("TURNSTILE_DATABASE_URL", f"sqlite+aiosqlite:///{place}")
    monkeypatch.setenv("TURNSTILE_TENANTS", "acme")
    return place


def caps(*arguments: str) -> Result:
    return CliRunner().invoke(build(), ["cost", "caps", *arguments])


def listed() -> list[dict[str, object]]:
    return [json.loads(line) for line in caps("list", "--json").output.splitlines()]


def test_caps_are_set_changed_listed_and_removed(file: str) -> None:
    assert caps("list").output == "no caps\n"
    assert "acme, tenant, in all: $100.00" in caps("set", "100").output
    assert "acme, user u1, each month: $5.00" in caps("set", "5", "--user", "u1", "--month").output
    assert caps("set", "7.5", "--user", "u1", "--month").exit_code == 0
    found = [(one["scope"], one["who"], one["period"], one["limit_usd"]) for one in listed()]
    assert found == [("tenant", "", "all", 100.0), ("user", "u1", "month", 7.5)]
    table = caps("list").output.splitlines()
    assert table[0].split() == ["tenant", "on", "period", "limit", "spent", "reserved", "resets"]
    assert table[1].split() == ["acme", "tenant", "all", "$100.00", "$0.00", "$0.00", "never"]
    assert caps("remove", "--user", "u1", "--month").exit_code == 0
    assert [one["scope"] for one in listed()] == ["tenant"]
    again = caps("remove", "--user", "u1", "--month")
    assert again.exit_code == 1
    assert "there is no cap acme, user u1, each month" in again.output


def test_a_list_shows_what_the_ledger_and_running_turns_say(file: str) -> None:
    caps("set", "5", "--user", "*")
    engine = create_engine(f"sqlite:///{file}")
    with engine.begin() as connection:
        rows = [
            {**LINE, "seq": 1, "micro_usd": 1_250_000},
            {**LINE, "seq": 2, "micro_usd": 250_000, "user_id": "u2"},
        ]
        connection.execute(insert(LEDGER), rows)
        held = {"tenant_id": "acme", "session_id": "s1", "turn_id": "t2", "user_id": "u1"}
        connection.execute(insert(RESERVATIONS).values(**held, left_micro_usd=1_000_000))
        account = {"tenant_id": "acme", "scope": "user", "who": "u1", "period": "all"}
        sums = {"spent_micro_usd": 1_250_000, "dearest_micro_usd": 0, "counted_at": 1.0}
        connection.execute(insert(CAP_ACCOUNTS).values(**account, **sums))
    engine.dispose()
    found = [(one["who"], one["spent_usd"], one["reserved_usd"]) for one in listed()]
    assert found == [("*", 1.5, 1.0), ("u1", 1.25, 1.0)]


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("set", "0"), "Input should be greater than"),
        (("set", "5", "--user", "u1", "--session", "s1"), "not both"),
        (("set", "5", "--user", "a b"), "is no id"),
    ],
)
def test_what_is_no_cap_is_refused_in_words(
    file: str, arguments: tuple[str, ...], words: str
) -> None:
    refused = caps(*arguments)
    assert refused.exit_code == 2
    assert words in " ".join(refused.output.split())
    assert listed() == []
