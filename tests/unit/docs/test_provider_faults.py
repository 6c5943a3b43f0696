"""The table of faults is true as far as a test can tell: its rows are whole, and the tests it names are there."""

from __future__ import annotations

import ast
import re
from functools import cache
from pathlib import Path

import pytest

pytestmark = pytest.mark.unit
ROOT = Path(__file__).parents[3]
COLUMNS = ["fault", "what we see", "what we do", "what the client sees", "shown by"]
NAMED = re.compile(r"`(test_\w+)::(test_\w+)`")


def rows() -> list[list[str]]:
    """The cells of every row, headers left out."""
    lines = (ROOT / "docs" / "provider-faults.md").read_text(encoding="utf-8").splitlines()
    found = [[c.strip() for c in line.strip("|").split("|")] for line in lines if line[:1] == "|"]
    return [cells for cells in found if cells != COLUMNS and set("".join(cells)) != {"-"}]


@cache
def present() -> set[tuple[str, str]]:
    """(module, test) of every test function."""
    return {
        (path.stem, node.name)
        for path in (ROOT / "tests").rglob("test_*.py")
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)
    }


@pytest.mark.parametrize("cells", rows(), ids=lambda cells: cells[0])
def test_a_fault_has_a_test_that_is_there(cells: list[str]) -> None:
    assert len(cells) == len(COLUMNS)
    named = NAMED.findall(cells[-1])
    assert named, "no test is named"
    assert [test for test in named if test not in present()] == []
    assert NAMED.sub("", cells[-1]).strip(", ") == "", "something else than tests is named"


def test_the_table_lists_faults() -> None:
    assert len(rows()) > 40
