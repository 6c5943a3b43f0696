"""The drawn page shows the whole table and is as generated."""

import pytest

from infra.docs.state_picture import PAGE, page, picture
from shared.session.transitions import TRANSITIONS

pytestmark = pytest.mark.unit


def test_every_transition_is_an_arrow() -> None:
    lines = picture().splitlines()
    for (before, event), status in TRANSITIONS.items():
        arrow = f"    {before or '[*]'} --> {status}: "
        [line] = [line for line in lines if line.startswith(arrow)]
        assert event.removeprefix("turn.") in line.removeprefix(arrow).split(" / ")


def test_the_page_in_the_tree_is_as_generated() -> None:
    assert PAGE.read_text(encoding="utf-8") == page()
