"""GET /v1/costs: the caller's tenant, by what was asked for."""

from __future__ import annotations

from datetime import date

import pytest

from shared.costs import CostRow, Wanted
from tests.unit.gateway.desk import Desk

pytestmark = pytest.mark.unit
ROW = CostRow(
    user_id="u1", model="", cost_usd=0.000123, estimated_usd=0.0, input_tokens=1, output_tokens=2,
    cache_read_tokens=3, cache_write_tokens=4, active_seconds=1.5, unpriced_requests=0,
)  # fmt: skip


async def test_costs_are_the_callers_tenants_and_told_by_what_was_asked_for() -> None:
    desk = Desk()
    desk.archive.cost_rows = [ROW]
    async with desk.client() as client:
        answer = await client.get(
            "/v1/costs?by=user,model&since=2026-11-01&until=2026-12-01",
            headers={"Authorization": "Bearer key-b"},
        )
    assert answer.status_code == 200
    (row,) = answer.json()["data"]
    assert (row["user_id"], row["model"], row["cost_usd"]) == ("u1", "", 0.000123)
    assert "tenant_id" not in row
    assert desk.archive.costs_asked == [
        Wanted(
            by=("user", "model"), tenant="other", since=date(2026, 11, 1), until=date(2026, 12, 1)
        )
    ]


@pytest.mark.parametrize("query", ["by=colour", "by=", "since=soon", "until=0"])
async def test_a_wrong_question_is_refused_by_its_field(query: str) -> None:
    desk = Desk()
    async with desk.client() as client:
        answer = await client.get(f"/v1/costs?{query}")
    assert answer.status_code == 400
    assert answer.json()["errors"][0]["field"] == query.partition("=")[0]


async def test_an_archive_that_is_away_is_said() -> None:
    desk = Desk()
    desk.archive.down = True
    async with desk.client() as client:
        answer = await client.get("/v1/costs")
    assert (answer.status_code, answer.json()["type"].rpartition(":")[2]) == (
        503,
        "archive_unavailable",
    )
