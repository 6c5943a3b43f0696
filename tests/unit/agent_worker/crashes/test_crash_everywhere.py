"""A worker dies at every side effect of a turn, before and after it; the next one finishes, and nothing shows.

The next worker starts from what the store, the log and the provider hold, once the dead one's lease has run out.
The laws every run keeps and what may differ from the quiet run are in `outcome.py`.
"""

from __future__ import annotations

import pytest

from tests.unit.agent_worker.effects import Halt, Tempo, When
from tests.unit.agent_worker.plays import PLAYS, rotation
from tests.unit.agent_worker.runs import crashed, quiet
from tests.unit.agent_worker.worker import EVEN, SLOW_STORE

pytestmark = pytest.mark.unit

# One play of each kind, in which "before" is tried as well: the same world as after the effect before it, but for
# what the worker read in between.
BEFORE = (
    "plain",
    "confirm_partly",
    "own_tool",
    "ambiguous",
    "outcome_again",
    "terminal",
    "interrupt",
    "coalesced",
    "steered",
    "archive_running",
)
# The plays in which it matters who is faster.
RACING = (
    "confirm",
    "confirm_twice",
    "queued",
    "interrupt",
    "interrupt_by_turn",
    "steered",
    "steered_in_vain",
    "terminal",
    "archive",
)
# In these the provider ends sessions itself: whether anybody listened is not up to us.
ENDING = {play.__name__ for play in rotation.PLAYS}
ENDING |= {"coalesced_again", "outcome_moved", "steered_lost", "steered_elsewhere"}
# Here a turn leaves a provider session while it is being closed.
LEFT = {"resumed_at_once", "worn"}


def points(play: str, tempo: Tempo, *whens: When) -> list[object]:
    """(play, tempo, k, when) of every effect of a play."""
    return [
        pytest.param(play, tempo, k, when, id=f"{play}-{tempo.name}-{k:02d}-{name}-{when}")
        for k, name in enumerate(quiet(play, tempo)[1], start=1)
        for when in whens
    ]


@pytest.mark.parametrize(
    ("play", "tempo", "k", "when"),
    [point for play in PLAYS for point in points(play, EVEN, "after")]
    + [point for play in BEFORE for point in points(play, EVEN, "before")]
    + [point for play in RACING for point in points(play, SLOW_STORE, "after")],
)
def test_a_crash_anywhere_leaves_no_trace(play: str, tempo: Tempo, k: int, when: When) -> None:
    expected, effects = quiet(play, tempo)
    found, _ = crashed(play, [Halt(k, when)], tempo)
    assert found == expected
    if play not in ENDING | LEFT and "close" not in effects[:k]:
        assert found.ends == expected.ends, "the provider's last word was missed without need"
