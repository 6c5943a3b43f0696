"""Every panel of the dashboards has rows: its query, as the data source would send it, on the real engine.

The data source's macros are put in here as its documentation describes them; that Grafana draws what comes back is
not shown by this.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from datetime import date
from pathlib import Path
from typing import Any

import pytest
import yaml

from infra.clickhouse.migrate import migrate
from tests.clickhouse_server import Running, ask, start_clickhouse, stop_clickhouse
from tests.synthetic.copies import Plan
from tests.synthetic.loading import load

pytestmark = pytest.mark.integration

ROOT = Path(__file__).parents[2]
GRAFANA = ROOT / "infra" / "grafana"
# 300 events of the log's end leave a turn open, for the panels of what is open now.
PLAN = Plan(events=20_017, patterns=150, days=5, until=date(2026, 11, 20), tenants=3)
FROM, TO = "2026-11-15 00:00:00", "2026-11-22 00:00:00"
DEAD = """
INSERT INTO turnstile.otel_traces (Timestamp, SpanName, ServiceName, SpanAttributes)
VALUES ('2026-11-19 10:00:00', 'send turnstile.dead.v1', 'recorder', {'turnstile.dead.reason': 'invalid_json'})
"""


def _boards() -> dict[str, Any]:
    found = sorted((GRAFANA / "dashboards").glob("*.json"))
    return {path.stem: json.loads(path.read_text()) for path in found}


BOARDS = _boards()
PANELS = [
    pytest.param(panel, id=f"{name}: {panel['title']}")
    for name, board in BOARDS.items()
    for panel in board["panels"]
    if panel["type"] != "row"
]


def filled(sql: str, tenants: str) -> str:
    """The query with the macros' and the variable's values, for the days FROM to TO in steps of an hour."""
    moments = f"toDateTime('{FROM}', 'UTC') AND {{0}} <= toDateTime('{TO}', 'UTC')"
    macros = {
        r"\$__timeFilter\(([^()]+)\)": lambda m: f"{m[1]} >= {moments.format(m[1])}",
        r"\$__dateFilter\(([^()]+)\)": lambda m: (
            f"{m[1]} >= toDate('{FROM[:10]}') AND {m[1]} <= toDate('{TO[:10]}')"
        ),
        r"\$__timeInterval\(((?:[^()]|\([^()]*\))+)\)": lambda m: (
            f"toStartOfInterval(toDateTime({m[1]}), INTERVAL 3600 second)"
        ),
        r"\$__interval_s\b": lambda m: "3600",
        r"\$\{tenant:singlequote\}": lambda m: tenants,
    }
    for pattern, value in macros.items():
        sql = re.sub(pattern, value, sql)
    assert "$" not in sql, f"a macro that nobody put in: {sql}"
    return sql


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    running = start_clickhouse(tmp_path_factory.mktemp("grafana"))
    migrate(running.url, say=lambda step: None)
    load(running.url, PLAN, 10_000, lambda words: None)
    assert ask(running.base, DEAD).status == 200
    yield running
    stop_clickhouse(running)


def _rows(server: Running, sql: str) -> list[dict[str, Any]]:
    answer = ask(server.base, sql, user="analyst", default_format="JSONEachRow")
    assert answer.status == 200, f"{sql}\n{answer.body.decode()}"
    return [json.loads(line) for line in answer.body.splitlines()]


@pytest.fixture(scope="module")
def tenants(server: Running) -> str:
    """All values of the boards' variable, as Grafana puts them in for `All`."""
    [sql] = {board["templating"]["list"][0]["query"] for board in BOARDS.values()}
    return ", ".join(f"'{row['tenant_id']}'" for row in _rows(server, sql))


@pytest.mark.parametrize("panel", PANELS)
def test_a_panel_has_rows(server: Running, tenants: str, panel: dict[str, Any]) -> None:
    [target] = panel["targets"]
    rows = _rows(server, filled(target["rawSql"], tenants))
    assert rows
    values = [value for row in rows for value in row.values()]
    assert any(value not in (None, 0, "", "0") for value in values)
    if target["queryType"] == "timeseries":
        assert {row["time"] >= FROM and row["time"] <= TO for row in rows} == {True}
        assert [row["time"] for row in rows] == sorted(row["time"] for row in rows)


@pytest.mark.parametrize("panel", PANELS)
def test_a_panel_of_another_tenant_shows_nothing_of_ours(
    server: Running, panel: dict[str, Any]
) -> None:
    sql = panel["targets"][0]["rawSql"]
    if "${tenant" in sql:
        rows = _rows(server, filled(sql, "'nobody'"))
        assert all(value in (None, 0, "0") for row in rows for value in row.values())


@pytest.mark.parametrize("name", sorted(BOARDS))
def test_panels_do_not_overlap_and_have_ids_of_their_own(name: str) -> None:
    panels = BOARDS[name]["panels"]
    assert len({panel["id"] for panel in panels}) == len(panels)
    taken: set[tuple[int, int]] = set()
    for panel in panels:
        at = panel["gridPos"]
        cells = {(at["x"] + x, at["y"] + y) for x in range(at["w"]) for y in range(at["h"])}
        assert not cells & taken, panel["title"]
        assert at["x"] + at["w"] <= 24
        taken |= cells


def test_the_source_of_the_panels_is_the_one_that_is_provisioned() -> None:
    folder = GRAFANA / "provisioning"
    [source] = yaml.safe_load((folder / "datasources" / "clickhouse.yaml").read_text())[
        "datasources"
    ]
    for board in BOARDS.values():
        for panel in board["panels"]:
            for target in panel.get("targets", []):
                assert target["datasource"] == {"type": source["type"], "uid": source["uid"]}
    [provider] = yaml.safe_load((folder / "dashboards" / "turnstile.yaml").read_text())["providers"]
    service = yaml.safe_load((ROOT / "docker-compose.yml").read_text())["services"]["grafana"]
    mounted = dict(volume.split(":")[:2] for volume in service["volumes"])
    assert mounted["./infra/grafana/dashboards"] == provider["options"]["path"]
    asked = set(re.findall(r"\$(\w+)", str(source)))
    assert asked <= set(service["environment"])
    assert re.fullmatch(r"grafana/grafana:\d+\.\d+\.\d+", service["image"])
