"""`turnstile export` against the real engine: what the files hold, read back by it and by pyarrow."""

from __future__ import annotations

import json
from collections.abc import Iterator
from datetime import date
from pathlib import Path

import clickhouse_connect
import pyarrow.parquet as parquet
import pytest
from typer.testing import CliRunner, Result

from infra.clickhouse.migrate import migrate
from services.operator.exports.pieces import SHAPES
from services.operator.main import build
from tests.clickhouse_server import fresh_database, shared_clickhouse
from tests.synthetic.copies import Plan
from tests.synthetic.loading import load

pytestmark = pytest.mark.integration

PLAN = Plan(events=6_000, patterns=60, days=4, until=date(2026, 10, 2), tenants=3)
SUMS = (
    "count(), sum(seq), sum(output_tokens), sum(cost_usd), sum(length(data)), sum(cityHash64(data))"
)


@pytest.fixture(scope="module")
def archive() -> Iterator[clickhouse_connect.driver.client.Client]:
    """A database with synthetic events of a few days around the end of a month; some of them twice."""
    url = fresh_database(shared_clickhouse().url)
    migrate(url, say=lambda step: None)
    load(url, PLAN, 2_000, lambda words: None)
    client = clickhouse_connect.get_client(dsn=url, autogenerate_session_id=False)
    client.command("INSERT INTO session_events SELECT * FROM session_events WHERE seq = 3")
    yield client
    client.command(f"DROP DATABASE {client.database}")
    client.close()


@pytest.fixture
def run(
    archive: clickhouse_connect.driver.client.Client, monkeypatch: pytest.MonkeyPatch
) -> object:
    url = shared_clickhouse().url.rsplit("/", 1)[0] + f"/{archive.database}"
    monkeypatch.setenv("TURNSTILE_CLICKHOUSE_URL", url)

    def export(*arguments: object) -> Result:
        return CliRunner().invoke(build(), ["export", *map(str, arguments)])

    return export


def test_the_files_hold_every_event_once(run, archive, tmp_path: Path) -> None:  # type: ignore[no-untyped-def]
    done = run(tmp_path / "all", "--by", "day")
    assert done.exit_code == 0, done.output
    files = sorted((tmp_path / "all").glob("*.parquet"))
    days = archive.query("SELECT DISTINCT toDate(at) FROM events ORDER BY 1").result_rows
    assert [file.name for file in files] == [f"events-{day}.parquet" for (day,) in days]
    assert len({day.month for (day,) in days}) == 2
    found = archive.query(f"SELECT {SUMS} FROM file('{tmp_path}/all/*.parquet')").result_rows
    assert found == archive.query(f"SELECT {SUMS} FROM events").result_rows
    assert found[0][0] == PLAN.events


def test_pyarrow_reads_the_same_types_and_rows(run, archive, tmp_path: Path) -> None:  # type: ignore[no-untyped-def]
    assert run(tmp_path, "--tenant", "acme", "--by", "none").exit_code == 0
    [path] = tmp_path.glob("*.parquet")
    table = parquet.read_table(path)
    kinds = {field.name: str(field.type) for field in table.schema}
    assert kinds["at"] == "timestamp[us, tz=UTC]"
    assert kinds["cost_usd"] == "decimal128(18, 6)"
    assert (kinds["seq"], kinds["is_error"], kinds["data"]) == ("uint64", "bool", "string")
    key = "tenant_id, session_id, seq"
    rows = archive.query(f"SELECT {key}, data FROM events WHERE tenant_id = 'acme' ORDER BY {key}")
    columns = [table.column(name).to_pylist() for name in (*key.split(", "), "data")]
    assert list(zip(*columns, strict=True)) == [tuple(row) for row in rows.result_rows]


def test_days_and_sessions_are_chosen(run, archive, tmp_path: Path) -> None:  # type: ignore[no-untyped-def]
    run(tmp_path / "days", "--since", "2026-09-30", "--until", "2026-10-02", "--by", "month")
    where = "at >= '2026-09-30' AND at < '2026-10-02'"
    found = archive.query(f"SELECT {SUMS} FROM file('{tmp_path}/days/*.parquet')").result_rows
    assert found == archive.query(f"SELECT {SUMS} FROM events WHERE {where}").result_rows
    names = sorted(file.name for file in (tmp_path / "days").glob("*.parquet"))
    assert names == ["events-2026-09.parquet", "events-2026-10.parquet"]
    [[tenant, session, count]] = archive.query(
        "SELECT tenant_id, session_id, count() FROM events GROUP BY 1, 2 ORDER BY 3 DESC LIMIT 1"
    ).result_rows
    run(tmp_path / "one", "--tenant", tenant, "--session", session, "--by", "none")
    assert parquet.read_table(tmp_path / "one").num_rows == count


@pytest.mark.parametrize("table", [table for table in SHAPES if table != "otel_traces"])
def test_every_table_can_be_exported(run, archive, tmp_path: Path, table: str) -> None:  # type: ignore[no-untyped-def]
    assert run(tmp_path, "--table", table, "--by", "month").exit_code == 0
    rows = sum(parquet.read_metadata(file).num_rows for file in tmp_path.glob("*.parquet"))
    assert rows == archive.command(f"SELECT count() FROM {table}") > 0


def test_nothing_is_overwritten_unasked_and_resume_writes_what_is_missing(  # type: ignore[no-untyped-def]
    run, archive, tmp_path: Path
) -> None:
    daily = (tmp_path, "--by", "day")
    assert run(*daily).exit_code == 0
    files = sorted(tmp_path.glob("*.parquet"))
    again = run(*daily)
    assert again.exit_code == 1
    assert "--resume" in again.output
    assert "--force" in again.output
    before = {file: file.stat().st_mtime_ns for file in files}
    files[1].unlink()
    (tmp_path / f".{files[1].name}.partial").write_bytes(b"PAR1 and no more")
    resumed = run(*daily, "--resume")
    assert resumed.exit_code == 0, resumed.output
    changed = [file for file in files if file.stat().st_mtime_ns != before[file]]
    assert changed == [files[1]]
    assert not list(tmp_path.glob(".*partial"))
    assert f"{len(files) - 1} files kept" in resumed.output
    listed = json.loads((tmp_path / "_export.json").read_text())
    assert sum(file["rows"] for file in listed["files"].values()) == PLAN.events
    assert run(*daily, "--resume", "--tenant", "acme").exit_code == 1
    assert run(*daily, "--force").exit_code == 0


def test_wrong_wishes_are_named(run, tmp_path: Path) -> None:  # type: ignore[no-untyped-def]
    assert "events, turn_facts" in run(tmp_path, "--table", "nothing").output
    assert run(tmp_path, "--table", "otel_traces", "--tenant", "acme").exit_code == 2
    assert run(tmp_path, "--since", "2026-02-02", "--until", "2026-01-01").exit_code == 2
    none = run(tmp_path, "--tenant", "nobody")
    assert (none.exit_code, "no such rows" in none.output) == (1, True)
    assert not list(tmp_path.glob("*.parquet"))
