"""The table of docs/analysts.md that says where each type of the provider's is found."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any, get_args

import pytest
from anthropic.types.beta.sessions import BetaManagedAgentsStreamSessionEvents

pytestmark = pytest.mark.unit

ROOT = Path(__file__).parents[3]
DOCUMENT = (ROOT / "docs" / "analysts.md").read_text()
TABLE = DOCUMENT.split("### Where each type is found")[1].split("\n#")[0]
ROWS = [line.split("|")[1:3] for line in TABLE.splitlines() if line.startswith("| `")]


def of_the_sdk(union: Any) -> set[str]:
    return {
        get_args(cls.model_fields["type"].annotation)[0] for cls in get_args(get_args(union)[0])
    }


def test_every_type_of_the_sdk_has_its_place_and_no_other_has() -> None:
    named = [kind for types, _ in ROWS for kind in re.findall(r"`([^`]+)`", types)]
    assert len(named) == len(set(named))
    assert set(named) == of_the_sdk(BetaManagedAgentsStreamSessionEvents)


@pytest.mark.parametrize(("types", "places"), ROWS)
def test_a_place_is_a_view_and_a_column_that_the_page_describes(types: str, places: str) -> None:
    for place in places.split(";"):
        if not (found := re.search(r"`(\w+)(?:\.(\w+))?`(?: \(([^)]*)\))?", place)):
            continue
        view, column, columns = found.groups()
        assert f"### `{view}`" in DOCUMENT, types
        chapter = DOCUMENT.split(f"### `{view}`")[1].split("\n### ")[0]
        for name in [column] if column else re.findall(r"`(\w+)[.`]", columns or ""):
            assert f"`{name}`" in chapter, f"{types}: {view}.{name}"
