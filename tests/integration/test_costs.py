"""What was paid for, out of a real archive: `turnstile cost`, and the question behind it and GET /v1/costs."""

from __future__ import annotations

import asyncio
import json
from datetime import date
from typing import Any

import pytest
from typer.testing import CliRunner

from services.gateway.adapters.clickhouse import ClickHouseEventArchive
from services.operator.main import build
from services.recorder.archive import ClickHouseWriter
from shared.costs import CostRow, Wanted
from tests.clickhouse_archive import emptied_archive
from tests.clickhouse_rows import event

pytestmark = pytest.mark.integration


def charged(seq: int, *lines: dict[str, Any], agent: str = "agent_1", **fields: Any) -> bytes:
    data = {"provider_session_id": "sesn_1", "agent": agent, "lines": lines}
    return event(seq, "session.charged", json.dumps(data), **fields)


def request(micro_usd: int, model: str = "claude-opus-5", price: str = "p") -> dict[str, Any]:
    return {
        "kind": "request", "source": "s", "model": model, "price": price, "micro_usd": micro_usd,
        "tokens": {"input_tokens": 10, "output_tokens": 1}, "estimate": micro_usd > 1_000_000,
    }  # fmt: skip


RUNNING = {"kind": "running", "source": "s", "active_ms": 36_000, "micro_usd": 800}
BEFORE = {"kind": "brought_forward", "micro_usd": 9_000_000}
EVENTS = (
    charged(1, request(2_000_001), RUNNING, at="2026-11-20T10:00:00Z"),
    charged(2, request(0, "newest", "unknown"), BEFORE, at="2026-11-21T23:59:59Z", turn_id=""),
    charged(3, request(5), at="2026-11-22T00:00:00Z", user_id="u2", agent="agent_2"),
    charged(4, request(7), at="2026-11-22T00:00:00Z", tenant_id="other"),
)


@pytest.fixture
def url(monkeypatch: pytest.MonkeyPatch) -> str:
    url = emptied_archive()
    writer = ClickHouseWriter(url, timeout=60)
    for one in (*EVENTS, EVENTS[0]):
        writer.insert(one)
    writer.close()
    monkeypatch.setenv("TURNSTILE_CLICKHOUSE_URL", url)
    return url


def asked(url: str, **wanted: Any) -> list[CostRow]:
    async def ask() -> list[CostRow]:
        archive = ClickHouseEventArchive(url)
        try:
            return list(await archive.costs(Wanted(**wanted)))
        finally:
            await archive.stop()

    return asyncio.run(ask())


def test_a_tenants_costs_are_told_by_day_and_model_each_line_once(url: str) -> None:
    found = asked(url, by=("day", "model"), tenant="acme")
    assert [(row.day, row.model, row.cost_usd) for row in found] == [
        ("2026-11-20", "claude-opus-5", 2.000001),
        ("2026-11-20", "", 0.0008),
        ("2026-11-21", "newest", 0.0),
        ("2026-11-22", "claude-opus-5", 0.000005),
    ]
    assert [(row.estimated_usd, row.unpriced_requests) for row in found][::2] == [
        (2.000001, 0),
        (0.0, 1),
    ]
    assert (found[0].input_tokens, found[1].active_seconds) == (10, 36.0)


def test_days_bound_what_is_counted(url: str) -> None:
    days = {"since": date(2026, 11, 21), "until": date(2026, 11, 22)}
    assert [row.user_id for row in asked(url, by=("user",), tenant="acme", **days)] == ["u1"]
    days = {"since": date(2026, 11, 22), "until": date(2026, 11, 23)}
    (row,) = asked(url, by=("user", "agent"), tenant="acme", **days)
    assert (row.user_id, row.agent, row.cost_usd) == ("u2", "agent_2", 0.000005)


@pytest.mark.usefixtures("url")
def test_the_command_tells_all_tenants_and_their_sum() -> None:
    found = CliRunner().invoke(build(), ["cost", "--by", "tenant"])
    assert found.exit_code == 0, found.output
    header, acme, other, total = (line.split() for line in found.output.splitlines())
    assert header[:2] == ["tenant", "usd"]
    assert (acme[:2], other[:2]) == (["acme", "2.000806"], ["other", "0.000007"])
    assert (total[:2], total[-1]) == (["total", "2.000813"], "1")


@pytest.mark.usefixtures("url")
def test_the_command_writes_json_and_refuses_what_it_does_not_know() -> None:
    found = CliRunner().invoke(build(), ["cost", "--by", "model", "--tenant", "other", "--json"])
    (row,) = map(json.loads, found.output.splitlines())
    assert (row["model"], row["cost_usd"]) == ("claude-opus-5", 0.000007)
    assert CliRunner().invoke(build(), ["cost", "--by", "colour"]).exit_code == 2
