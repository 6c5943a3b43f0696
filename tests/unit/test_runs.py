"""`python -m tests` leaves no test out and runs none twice."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from pathlib import Path

import pytest

from tests.__main__ import ALL, QUICK, TIERS

pytestmark = pytest.mark.unit


def files(*parts: str) -> set[Path]:
    """The test files that pytest finds in these folders and files."""
    paths = [Path(part) for part in parts]
    return {
        file for path in paths for file in (path.rglob("test_*.py") if path.is_dir() else [path])
    }


def ran(run: Sequence[str]) -> set[Path]:
    """The test files of a run that was given this."""
    given = [part for part in run if not part.startswith("--ignore=")]
    return files(*given) - files(*(part.partition("=")[2] for part in run if part not in given))


@pytest.mark.parametrize(("runs", "tiers"), [(ALL, TIERS), (QUICK, ("tests/unit",))])
def test_every_test_file_is_run_once(runs: Sequence[Sequence[str]], tiers: Sequence[str]) -> None:
    counted = Counter(file for run in runs for file in ran(run))
    assert counted == Counter(files(*tiers))
