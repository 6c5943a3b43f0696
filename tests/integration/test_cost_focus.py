"""`turnstile cost export`: what a FinOps tool reads in the file, and that it adds up to the ledger."""

from __future__ import annotations

from decimal import Decimal
from pathlib import Path
from typing import Any

import pyarrow.parquet as parquet
import pytest
from typer.testing import CliRunner, Result

from services.operator.costs.focus import COLUMNS
from services.operator.main import build
from services.recorder.archive import ClickHouseWriter
from tests.clickhouse_archive import emptied_archive
from tests.integration.test_costs import BEFORE, EVENTS, RUNNING, charged, request

pytestmark = pytest.mark.integration
# Of FOCUS 1.2, section 3.1: columns that every data set must have.
MANDATORY = {
    *("BilledCost", "BillingAccountId", "BillingAccountName", "BillingCurrency"),
    *("BillingPeriodEnd", "BillingPeriodStart", "ChargeCategory", "ChargeClass"),
    *("ChargeDescription", "ChargePeriodEnd", "ChargePeriodStart", "ContractedCost"),
    *("EffectiveCost", "InvoiceIssuerName", "ListCost", "PricingQuantity", "PricingUnit"),
    *("ProviderName", "PublisherName", "ServiceCategory", "ServiceName"),
}
MORE = charged(
    5,
    {"kind": "provider", "source": "s", "micro_usd": -20_000, "estimate": True},
    {"kind": "cache_hour", "model": "m", "cache_hour_tokens": 9, "micro_usd": 3, "price": "p"},
    RUNNING,
    BEFORE,
    at="2026-10-31T23:00:00Z",
)


@pytest.fixture(autouse=True)
def url(monkeypatch: pytest.MonkeyPatch) -> str:
    url = emptied_archive()
    writer = ClickHouseWriter(url, timeout=60)
    for one in (*EVENTS, EVENTS[0], MORE):
        writer.insert(one)
    writer.close()
    monkeypatch.setenv("TURNSTILE_CLICKHOUSE_URL", url)
    return url


def run(*arguments: object) -> Result:
    return CliRunner().invoke(build(), ["cost", *map(str, arguments)])


def exported(path: Path, *arguments: object) -> list[dict[str, Any]]:
    done = run("export", "--format", "focus", *arguments, path)
    assert done.exit_code == 0, done.output
    rows: list[dict[str, Any]] = parquet.read_table(path).to_pylist()
    return rows


def test_a_reader_finds_the_specifications_columns_and_types(tmp_path: Path) -> None:
    exported(tmp_path / "c.parquet")
    schema = parquet.read_schema(tmp_path / "c.parquet")
    assert schema.names == list(COLUMNS)
    assert set(schema.names) >= MANDATORY
    kinds = {field.name: str(field.type) for field in schema}
    assert kinds["BilledCost"] == "decimal128(18, 6)"
    assert kinds["ChargePeriodStart"] == "timestamp[ms, tz=UTC]"
    assert kinds["Tags"].startswith("map<string, string")
    assert kinds["ConsumedQuantity"] == "double"


def test_the_file_adds_up_to_the_ledger_each_line_once(tmp_path: Path) -> None:
    rows = exported(tmp_path / "c.parquet")
    assert sum(row["BilledCost"] for row in rows) == Decimal("1.981616")
    assert all(
        row["BilledCost"] == row["EffectiveCost"] == row["ListCost"] == row["ContractedCost"]
        for row in rows
    )
    for row in rows:
        for name in MANDATORY - {"ChargeClass", "PricingQuantity", "PricingUnit"}:
            assert row[name] is not None, name
    assert "brought_forward" not in {row["x_Kind"] for row in rows}


def test_a_row_tells_whose_it_is_and_what_was_consumed(tmp_path: Path) -> None:
    rows = exported(tmp_path / "c.parquet", "--tenant", "acme", "--account", "org-7")
    tokens = next(row for row in rows if row["x_Kind"] == "request")
    assert (tokens["ConsumedQuantity"], tokens["ConsumedUnit"]) == (11.0, "Tokens")
    assert (tokens["SkuId"], tokens["SkuPriceId"]) == ("claude-opus-5/Tokens", "p")
    assert (tokens["ResourceId"], tokens["SubAccountId"]) == ("sesn_1", "acme")
    assert tokens["BillingAccountId"] == "org-7"
    assert dict(tokens["Tags"])["user"] == "u1"
    assert tokens["ChargePeriodStart"].isoformat() == "2026-11-20T00:00:00+00:00"
    assert tokens["ChargePeriodEnd"].isoformat() == "2026-11-21T00:00:00+00:00"
    assert tokens["BillingPeriodEnd"].isoformat() == "2026-12-01T00:00:00+00:00"
    october = {row["x_Kind"]: row for row in rows if row["BillingPeriodStart"].month == 10}
    assert set(october) == {"provider", "cache_hour", "running"}
    assert october["running"]["ConsumedQuantity"] == pytest.approx(0.01)
    assert october["running"]["ConsumedUnit"] == "Hours"
    assert october["cache_hour"]["ConsumedQuantity"] == 9.0
    assert october["provider"]["ChargeCategory"] == "Adjustment"
    assert october["provider"]["ConsumedQuantity"] is None
    assert october["provider"]["BilledCost"] == Decimal("-0.020000")


def test_days_bound_the_file_and_one_without_rows_has_its_columns(tmp_path: Path) -> None:
    days = ("--since", "2026-11-21", "--until", "2026-11-22")
    rows = exported(tmp_path / "day.parquet", *days)
    assert {row["x_Model"] for row in rows} == {"newest"}
    assert exported(tmp_path / "none.parquet", "--tenant", "nobody") == []
    assert parquet.read_schema(tmp_path / "none.parquet").names == list(COLUMNS)


def test_a_file_that_exists_stays_unless_forced_and_wrong_usage_is_told(tmp_path: Path) -> None:
    path = tmp_path / "c.parquet"
    path.write_bytes(b"mine")
    refused = run("export", path)
    assert refused.exit_code == 1
    assert "--force" in refused.output
    assert path.read_bytes() == b"mine"
    assert exported(path, "--force")
    assert [file.name for file in tmp_path.iterdir()] == ["c.parquet"]
    assert run("export", "--format", "csv", path).exit_code == 2
    assert run("export", "--since", "2026-11-02", "--until", "2026-11-01", path).exit_code == 2
    assert run("export", tmp_path / "no" / "c.parquet").exit_code == 1


def test_costs_are_told_as_before_beside_the_subcommands() -> None:
    assert run("--by", "tenant").output.splitlines()[0].startswith("tenant")
    assert "export" in run("--help").output


def test_a_request_without_tokens_is_no_trouble(tmp_path: Path, url: str) -> None:
    writer = ClickHouseWriter(url, timeout=60)
    writer.insert(charged(6, {**request(1), "tokens": {}, "model": ""}, tenant_id="odd"))
    writer.close()
    (row,) = exported(tmp_path / "c.parquet", "--tenant", "odd")
    assert (row["ConsumedQuantity"], row["SkuId"]) == (0.0, "Tokens")
