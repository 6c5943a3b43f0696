"""`python -m tests.unit.model --turns 2 --freezes 1`: explore one world and say what was found."""

from __future__ import annotations

import argparse
import sys
import time

from tests.unit.model.explore import TooMany, explore
from tests.unit.model.rules import Rules, World


def main() -> int:
    """Explore; answers 0 when the laws hold, 1 when one breaks, 2 when there are too many states."""
    parser = argparse.ArgumentParser(prog="python -m tests.unit.model", description=__doc__)
    parser.add_argument("--turns", type=int, default=2)
    for fault in ("crashes", "freezes", "losses", "late", "interrupts"):
        parser.add_argument(f"--{fault}", type=int, default=0, help="how many at most (default 0)")
    parser.add_argument("--steers", action="store_true", help="each turn steers the one before it")
    parser.add_argument("--most-states", type=int, default=3_000_000)
    given = vars(parser.parse_args())
    most = given.pop("most_states")
    began = time.process_time()
    try:
        found = explore(Rules(), World(**given), most_states=most)
    except TooMany as error:
        print(f"{error}: raise --most-states")
        return 2
    seconds = time.process_time() - began
    print(f"{found.states} states, {found.steps} steps, {seconds:.1f} s of CPU")
    print(f"most messages of one turn at the provider: {found.most}")
    for why, states in sorted(found.doubled.items()):
        print(f"doubled in {states} states: {' and '.join(why)}")
    print(f"broken: {found.broken}" if found.broken else "every law holds")
    print("\n".join(found.way))
    return 1 if found.broken else 0


if __name__ == "__main__":
    sys.exit(main())
