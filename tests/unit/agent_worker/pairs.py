"""Two crashes in a row: which pairs a play has, and what is wrong after one of them.

`python -m tests.unit.agent_worker.pairs` tries more of them than the tests do: `--pairs 200 --seed 7`, or `--all`.
"""

from __future__ import annotations

import argparse
import random
import sys
import time
from collections.abc import Iterator

from tests.unit.agent_worker.effects import Halt, When
from tests.unit.agent_worker.plays import PLAYS
from tests.unit.agent_worker.runs import crashed, quiet

SEED = 2026
WHENS: tuple[When, ...] = ("before", "after")
Pair = tuple[Halt, Halt]


def drawn(play: str, count: int, *, seed: int) -> list[Pair]:
    """Pairs by chance, the same ones for a seed. Most second crashes come early: that is where the second worker
    picks up what the first one left."""
    chance = random.Random(f"{seed} {play}")
    first = chance.choices(_firsts(play), k=count)
    return [(halt, Halt(_early(chance), chance.choice(WHENS))) for halt in first]


def every(play: str) -> Iterator[Pair]:
    """The full square: each second crash at each effect that the second worker took when it was left alone."""
    for first in _firsts(play):
        _, left = crashed(play, [first])
        for k in range(1, len(left) + 1):
            for when in WHENS:
                yield first, Halt(k, when)


def wrong(play: str, pair: Pair) -> str:
    """What is wrong after these crashes, "" for nothing."""
    expected, _ = quiet(play)
    try:
        assert crashed(play, pair)[0] == expected
    except AssertionError as error:
        return str(error) or "it differs from the quiet run"
    return ""


def _firsts(play: str) -> list[Halt]:
    _, effects = quiet(play)
    return [Halt(k, when) for k in range(1, len(effects) + 1) for when in WHENS]


def _early(chance: random.Random) -> int:
    return 1 + min(int(chance.expovariate(1 / 8)), 40)


def main() -> int:
    """Try pairs and say what was found; answers 1 when something is wrong."""
    parser = argparse.ArgumentParser(
        prog="python -m tests.unit.agent_worker.pairs", description=__doc__
    )
    parser.add_argument("--play", choices=PLAYS, action="append", help="default: all of them")
    parser.add_argument("--pairs", type=int, default=100, help="of each play (default 100)")
    parser.add_argument("--seed", type=int, default=SEED)
    parser.add_argument("--all", action="store_true", help="the full square instead of a sample")
    given = parser.parse_args()
    bad = 0
    for play in given.play or PLAYS:
        began = time.monotonic()
        pairs = list(every(play)) if given.all else drawn(play, given.pairs, seed=given.seed)
        for pair in pairs:
            if found := wrong(play, pair):
                bad += 1
                print(f"  {play} {pair}: {found}")
        print(f"{play}: {len(pairs)} pairs, {time.monotonic() - began:.0f} s", flush=True)
    return 1 if bad else 0


if __name__ == "__main__":
    sys.exit(main())
