"""The worker dies, and the next one dies as well, at any of the effects it takes to finish what the first one left.

Every play has its pairs of crashes; which of them are tried is drawn with a seed, because the full square takes
hours: `python -m tests.unit.agent_worker.pairs --all` goes through it.
"""

from __future__ import annotations

import pytest

from tests.unit.agent_worker.pairs import SEED, Pair, drawn, wrong
from tests.unit.agent_worker.plays import PLAYS

pytestmark = pytest.mark.unit

# Of each play; those whose time is longest have fewer.
PAIRS = 16


@pytest.mark.parametrize("play", PLAYS)
def test_the_next_worker_may_crash_as_well(play: str) -> None:
    failed = [
        (pair, found) for pair in drawn(play, PAIRS, seed=SEED) if (found := wrong(play, pair))
    ]
    assert not failed, "\n".join(f"{described(pair)}: {found}" for pair, found in failed)


def described(pair: Pair) -> str:
    return " then ".join(f"at effect {halt.k}, {halt.when} it" for halt in pair)
