"""What a leg's result says: ratio, verdict, table."""

import json
from dataclasses import replace

import pytest

from tests.bench.results import HEADINGS, Result, markdown, plain

pytestmark = pytest.mark.unit

ACCEPT = Result(
    leg="accept",
    unit="requests/s",
    ours=800.0,
    bare=1_000.0,
    target=0.8,
    ours_ms=(3.0, 12.5),
    notes=["on a quiet machine"],
)
OVERHEAD = Result("overhead", "ms p50", ours=6.0, bare=2.0, target=3.0, at_most=True)


@pytest.mark.parametrize(
    ("result", "ratio", "met"),
    [
        (ACCEPT, 0.8, True),
        (replace(ACCEPT, ours=799.0), 0.799, False),
        (OVERHEAD, 3.0, True),
        (replace(OVERHEAD, ours=6.1), 3.05, False),
    ],
)
def test_a_target_is_a_floor_or_a_ceiling(result: Result, ratio: float, met: bool) -> None:
    assert result.ratio == pytest.approx(ratio)
    assert result.met is met


@pytest.mark.parametrize("result", [ACCEPT, OVERHEAD])
def test_a_baseline_that_measured_nothing_meets_nothing(result: Result) -> None:
    assert replace(result, bare=0.0).met is False


def test_the_table_for_a_terminal_is_aligned() -> None:
    lines = plain([ACCEPT, OVERHEAD]).splitlines()
    assert len(lines) == 5
    assert lines[0].split()[:2] == ["leg", "unit"]
    place = lines[0].index("target")
    assert lines[2][place:].startswith("≥ 0.8 met")
    assert lines[3][place:].startswith("≤ 3 met")
    assert lines[4] == "accept: on a quiet machine"


def test_the_markdown_table_has_as_many_cells_in_every_row() -> None:
    table, _, notes = markdown([ACCEPT, OVERHEAD]).partition("\n\n")
    rows = [line.strip("| ").split(" | ") for line in table.splitlines()]
    assert {len(row) for row in rows} == {len(HEADINGS)}
    assert rows[2] == [
        "accept",
        "requests/s",
        "800",
        "1,000",
        "0.80",
        "≥ 0.8 met",
        "3.00 / 12.50 ms",
        "-",
    ]
    assert notes == "- accept: on a quiet machine"


def test_json_carries_ratio_and_verdict() -> None:
    found = json.loads(json.dumps(ACCEPT.as_json()))
    assert (found["ratio"], found["met"], found["leg"]) == (0.8, True, "accept")
    assert found["notes"] == ["on a quiet machine"]
