"""The closed lists are true: what they name is used, under the labels they give, and nothing else is.

A metric that is exported and never moves, and a span that a query waits for in vain, mislead an operator; a log
line is found by its event.
"""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import pytest
import yaml

from services.gateway.http.request import OPEN, UNKNOWN, route_of
from shared.metric_names import COUNTERS, GAUGES, HISTOGRAMS, About
from shared.span_names import SPAN_NAMES, http_span

pytestmark = pytest.mark.unit
ROOT = Path(__file__).parents[2]
LISTS = {ROOT / "shared" / "span_names.py", ROOT / "shared" / "metric_names.py"}
METRICS: dict[str, About] = dict([*COUNTERS.items(), *GAUGES.items(), *HISTOGRAMS.items()])
LEVELS = {"debug", "info", "warning", "error", "exception", "critical"}
# The root is the one logger that libraries go through.
LOGGERS = ("log", "_log", "root")
EVENT = re.compile(r"[a-z][a-z0-9]*(_[a-z0-9]+)*")
METHODS = ("GET", "POST", "PUT", "DELETE")
# Names that no source spells out, and why.
NOT_SPELLED = {
    "HTTP": "http_span answers it for a route that is not on the list",
    **{
        name: "http_span puts it together from method and route"
        for name in SPAN_NAMES
        if name.split(" ")[0] in METHODS
    },
}


def trees(*parts: str) -> Iterator[tuple[Path, ast.Module]]:
    for part in parts or ("services", "shared"):
        for path in sorted((ROOT / part).rglob("*.py")):
            if path not in LISTS:
                yield path, parsed(path)


@cache
def parsed(path: Path) -> ast.Module:
    return ast.parse(path.read_text(encoding="utf-8"))


def spelled() -> set[str]:
    """Every text constant of the sources."""
    nodes = (node for _, tree in trees() for node in ast.walk(tree))
    return {n.value for n in nodes if isinstance(n, ast.Constant) and isinstance(n.value, str)}


def test_every_metric_is_counted_somewhere() -> None:
    assert sorted(METRICS.keys() - spelled()) == []


def test_every_span_is_made_somewhere() -> None:
    assert sorted(SPAN_NAMES - spelled() - NOT_SPELLED.keys()) == []


def test_every_http_span_has_a_route_that_is_traced() -> None:
    for name in NOT_SPELLED.keys() - {"HTTP"}:
        method, route = name.split(" ")
        assert http_span(method, route) == name
        assert route_of(route.replace("{session_id}", "s").replace("{turn_id}", "t")) == route
        assert route not in OPEN, f"{name}: the front makes no span for it"
    assert http_span("GET", UNKNOWN) == "HTTP"


def calls() -> Iterator[tuple[str, str, set[str]]]:
    """Where a metric is moved, its name, and the labels it is given."""
    for path, tree in trees():
        for node in ast.walk(tree):
            if not isinstance(node, ast.Call) or not isinstance(node.func, ast.Attribute):
                continue
            owner, first = node.func.value, next(iter(node.args), None)
            if isinstance(owner, ast.Name) and owner.id == "metrics" and first is not None:
                assert isinstance(first, ast.Constant), f"{path}:{node.lineno}: spell the name out"
                labels = {keyword.arg or "**" for keyword in node.keywords}
                yield f"{path.relative_to(ROOT)}:{node.lineno}", str(first.value), labels


def test_every_metric_has_the_labels_of_the_list() -> None:
    found = list(calls())
    assert len(found) > 30
    wrong = [
        (place, name, labels)
        for place, name, labels in found
        if labels - {"amount"} != set(METRICS[name].labels)
    ]
    assert wrong == []


def test_alerts_ask_for_metrics_that_there_are_by_labels_they_have() -> None:
    rules = yaml.safe_load((ROOT / "infra" / "prometheus" / "alerts.yaml").read_text())
    alerts = [rule for group in rules["groups"] for rule in group["rules"]]
    assert len({alert["alert"] for alert in alerts}) == len(alerts)
    manual = (ROOT / "docs" / "operations.md").read_text(encoding="utf-8")
    for alert in alerts:
        asked = re.findall(r"(turnstile_\w+)(?:\{([^}]*)\})?", alert["expr"])
        assert asked, alert
        for name, matchers in asked:
            labels = set(re.findall(r"(\w+)[!=]", matchers))
            assert labels <= {*METRICS[name].labels, "instance"}, alert
        assert alert["labels"]["severity"] in ("critical", "warning", "info")
        assert {"summary", "do"} <= alert["annotations"].keys()
        assert f"`{alert['alert']}`" in manual, (
            f"docs/operations.md says nothing of {alert['alert']}"
        )


def is_logger_got(node: ast.expr) -> bool:
    return isinstance(node, ast.Call) and ast.unparse(node.func) in (
        "logs.get",
        "logging.getLogger",
    )


def is_logger(node: ast.expr) -> bool:
    """Loggers are called `log` or `_log`, or are used where they are got."""
    return is_logger_got(node) or (isinstance(node, ast.Name) and node.id in LOGGERS)


def log_calls() -> Iterator[tuple[str, list[ast.expr]]]:
    """Where something is logged, and what is given beside fields."""
    for path, tree in trees("services", "shared", "infra"):
        for node in ast.walk(tree):
            if not isinstance(node, ast.Call) or not isinstance(node.func, ast.Attribute):
                continue
            if node.func.attr in LEVELS and is_logger(node.func.value):
                yield f"{path.relative_to(ROOT)}:{node.lineno}", node.args


def is_event(given: list[ast.expr]) -> bool:
    event = given[0].value if given and isinstance(given[0], ast.Constant) else None
    return len(given) == 1 and isinstance(event, str) and EVENT.fullmatch(event) is not None


def test_every_log_call_names_its_event_in_snake_case() -> None:
    found = list(log_calls())
    assert len(found) > 60
    assert [place for place, given in found if not is_event(given)] == []


def test_every_log_line_of_the_manual_is_logged() -> None:
    manual = (ROOT / "docs" / "operations.md").read_text(encoding="utf-8")
    lines = manual.split("## Log lines")[1].split("\n## ")[0].splitlines()
    told = {
        name
        for line in lines
        if line.startswith("| `")
        for name in re.findall(r"`(\w+)`", line.split("|")[1])
    }
    assert len(told) > 20
    logged = {given[0].value for _, given in log_calls() if isinstance(given[0], ast.Constant)}
    assert sorted(told - logged) == []


def test_every_logger_has_a_name_that_marks_its_calls() -> None:
    for path, tree in trees("services", "shared", "infra"):
        for node in ast.walk(tree):
            if isinstance(node, ast.Assign) and is_logger_got(node.value):
                assert ast.unparse(node.targets[0]) in LOGGERS, f"{path}:{node.lineno}"
