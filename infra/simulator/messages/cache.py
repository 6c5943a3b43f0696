"""The prompt cache: ends of prefixes that were written, until they run out.

A mark (`cache_control`) writes what stands before and in it, and reads the longest prefix that was written before
at one of the twenty blocks up to it. A prefix shorter than the model's minimum is neither written nor read.
"""

from __future__ import annotations

from collections import OrderedDict
from dataclasses import dataclass

from infra.simulator.messages.prompt import Part
from infra.simulator.stamps import SECOND
from shared import cache_minimum

LOOKBACK = 20
SECONDS = {"5m": 300, "1h": 3_600}
MOST = 100_000  # ends that are remembered
UNKNOWN = 1_024  # the minimum of a model that has none in the rows
DAY = "9999-12-31"  # the newest rows
MINIMUMS = cache_minimum.load()


@dataclass(frozen=True, slots=True)
class Cached:
    """Tokens of a prompt that came from the cache, and those that went into it, by how long they stay."""

    read: int = 0
    written_5m: int = 0
    written_1h: int = 0

    @property
    def written(self) -> int:
        return self.written_5m + self.written_1h


class Cache:
    """The cache of one simulator. Times are microseconds."""

    def __init__(self) -> None:
        self._ends: OrderedDict[tuple[str, str], tuple[int, int]] = (
            OrderedDict()
        )  # until, and how long

    def use(self, model: str, parts: list[Part], now: int) -> Cached:
        """What a request with this prompt reads and writes. What is read lives on as long again."""
        least = _minimum(model)
        marks = [at for at, part in enumerate(parts) if part.ttl and part.tokens >= least]
        hit = self._longest(model, parts, marks, now)
        before = read = parts[hit].tokens if hit is not None else 0
        written = {"5m": 0, "1h": 0}
        for at in marks:
            if hit is not None and at <= hit:
                continue
            written[parts[at].ttl] += parts[at].tokens - before
            before = parts[at].tokens
            self._keep((model, parts[at].digest), now, SECONDS[parts[at].ttl] * SECOND)
        return Cached(read, written["5m"], written["1h"])

    def _longest(self, model: str, parts: list[Part], marks: list[int], now: int) -> int | None:
        for mark in reversed(marks):
            for at in range(mark, max(-1, mark - LOOKBACK), -1):
                key = (model, parts[at].digest)
                until, stays = self._ends.get(key, (0, 0))
                if until > now:
                    self._keep(key, now, stays)
                    return at
        return None

    def _keep(self, key: tuple[str, str], now: int, stays: int) -> None:
        self._ends[key] = (now + stays, stays)
        self._ends.move_to_end(key)
        while len(self._ends) > MOST:
            self._ends.popitem(last=False)


def _minimum(model: str) -> int:
    row = MINIMUMS.find(model, DAY)
    return row.tokens if row is not None and row.tokens is not None else UNKNOWN
