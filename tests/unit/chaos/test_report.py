"""What a run comes to: figures by nearest rank, and when it counts as passed."""

from __future__ import annotations

import math
from dataclasses import replace

import pytest

from tests.chaos.evidence import Evidence
from tests.chaos.moves import Said
from tests.chaos.recovery import Recovery
from tests.chaos.report import report, spread
from tests.chaos.run import Outcome
from tests.chaos.schedule import Strike

pytestmark = pytest.mark.unit

STRIKE = Strike(1.0, "kafka", "kill")
QUIET = Outcome([], [], [Recovery(STRIKE, 1.5, 3, "s1")], 0, "")


def recoveries(*seconds: float | None) -> list[Recovery]:
    return [Recovery(STRIKE, value, 1, "s1") for value in seconds]


def test_a_spread_is_by_nearest_rank() -> None:
    found = spread([float(n) for n in range(100, 0, -1)])
    assert found == {"count": 100, "p50": 50.0, "p99": 99.0, "max": 100.0}
    assert spread([2.0]) == {"count": 1, "p50": 2.0, "p99": 2.0, "max": 2.0}
    assert spread([]) == {"count": 0}


def test_what_never_went_on_is_infinite() -> None:
    told = report(1, 60, replace(QUIET, recoveries=recoveries(1.0, None)))
    assert told.figures()["recovery"]["max"] == math.inf


def test_a_run_passes_when_all_is_well() -> None:
    assert report(1, 60, QUIET).passed
    assert "seed 1: passed" in report(1, 60, QUIET).text()


@pytest.mark.parametrize(
    "outcome",
    [
        replace(QUIET, recoveries=recoveries(None)),
        replace(QUIET, quiet="gateway not ready"),
        replace(QUIET, wrong_sums=["tenant_days: turns is 3, over distinct events it is 2"]),
        replace(QUIET, evidence=[Evidence("s1", [Said("t1", "one")], [], [])]),
    ],
    ids=["not recovered", "no rest", "sums", "a turn lost"],
)
def test_a_run_fails_when_anything_is_wrong(outcome: Outcome) -> None:
    told = report(4, 60, outcome)
    assert not told.passed
    assert "seed 4: FAILED" in told.text()


def test_the_figures_count_what_was_found() -> None:
    told = report(1, 60, replace(QUIET, evidence=[Evidence("s1", [Said("t1", "one")], [], [])]))
    assert told.figures()["turns accepted"] == 1
    assert told.figures()["lost"] == 1
    assert told.as_json()["findings"] == [
        {"kind": "lost", "session_id": "s1", "detail": "t1 never ended"}
    ]
