"""What people ask and agents reply: words of a small vocabulary, common ones more often."""

from __future__ import annotations

from itertools import accumulate
from pathlib import Path
from random import Random

_VOCABULARY = Path(__file__).with_name("words.txt").read_text().split()
_TOTALS = list(accumulate(1 / (place + 3) for place in range(len(_VOCABULARY))))


def words(chance: Random, count: int) -> str:
    """So many words and a full stop, most of them small ones."""
    return " ".join(chance.choices(_VOCABULARY, cum_weights=_TOTALS, k=count)).capitalize() + "."


def lines(chance: Random, count: int) -> str:
    """What a tool prints: so many lines with names and numbers."""
    return "\n".join(
        f"{chance.choice(_VOCABULARY)}/{chance.choice(_VOCABULARY)}.log:{chance.randrange(1, 9_000)}: "
        f"{chance.choice(_LEVELS)} {chance.choice(_VOCABULARY)} took {chance.randrange(1, 40_000)} us"
        for _ in range(count)
    )


_LEVELS = ("info", "info", "info", "warning", "error")
