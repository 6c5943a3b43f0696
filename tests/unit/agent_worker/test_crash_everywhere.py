"""A worker dies at every side effect of a turn, before and after it; the next one finishes, and nothing shows.

The next worker starts from what the store, the log and the provider hold, once the dead one's lease has run out.
The laws every run keeps and what may differ from the quiet run are in `outcome.py`.
"""

from __future__ import annotations

import pytest

from tests.unit.agent_worker.effects import Halt, Tempo, When
from tests.unit.agent_worker.plays import PLAYS
from tests.unit.agent_worker.runs import crashed, quiet
from tests.unit.agent_worker.worker import EVEN, SLOW_STORE

pytestmark = pytest.mark.unit

# The plays in which it matters who is faster, and of which every n-th first crash is followed by a second one.
RACING = ("confirm", "queued", "interrupt", "archive")
PAIRED = {"plain": 2, "confirm": 5}


def points(play: str, tempo: Tempo, *whens: When) -> list[object]:
    """(play, tempo, k, when) of every effect of a play."""
    return [
        pytest.param(play, tempo, k, when, id=f"{play}-{tempo.name}-{k:02d}-{name}-{when}")
        for k, name in enumerate(quiet(play, tempo)[1], start=1)
        for when in whens
    ]


@pytest.mark.parametrize(
    ("play", "tempo", "k", "when"),
    [point for play in PLAYS for point in points(play, EVEN, "before", "after")]
    + [point for play in RACING for point in points(play, SLOW_STORE, "after")],
)
def test_a_crash_anywhere_leaves_no_trace(play: str, tempo: Tempo, k: int, when: When) -> None:
    expected, effects = quiet(play, tempo)
    found, _ = crashed(play, [Halt(k, when)], tempo)
    assert found == expected
    if "close" not in effects[:k]:
        assert found.ends == expected.ends, "the provider's last word was missed without need"


@pytest.mark.parametrize(
    ("play", "tempo", "k", "when"),
    [point for play, step in PAIRED.items() for point in points(play, EVEN, "after")[::step]],
)
def test_the_next_worker_may_crash_as_well(play: str, tempo: Tempo, k: int, when: When) -> None:
    """At every one of its own effects: it has as many as it takes to finish what the first one left."""
    expected, _ = quiet(play, tempo)
    _, left = crashed(play, [Halt(k, when)], tempo)
    wrong: list[str] = []
    for second, name in enumerate(left, start=1):
        try:
            assert crashed(play, [Halt(k, when), Halt(second, when)], tempo)[0] == expected
        except AssertionError as error:
            wrong.append(f"second crash at its effect {second}, {name}: {error}")
    assert not wrong, "\n".join(wrong)
