"""Whether a canary is rolled back: its turns against those of the pinned version. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from math import sqrt
from typing import Literal

from msgspec import Struct

Cause = Literal["errors", "cost", "latency"]
# Two standard errors: beyond them a difference is hardly chance.
SURE = 2.0
# Without enough turns of the pinned version: a canary that fails so often needs no comparison.
HOPELESS = 0.5


class Figures(Struct, frozen=True):
    """Turns of one version that ended: how many, how many failed or were refused, what one cost on average (US
    dollars), and the 95th percentile of seconds from submitted to ended."""

    turns: int = 0
    failed: int = 0
    cost_usd: float = 0.0
    p95_seconds: float = 0.0

    @property
    def failing(self) -> float:
        return self.failed / self.turns if self.turns else 0.0


class Bounds(Struct, frozen=True):
    """How much worse a canary may be: failures in percentage points, cost and latency in percent of the pinned
    version's. Nothing is judged below `turns` of it."""

    turns: int = 50
    errors: float = 5.0
    cost: float = 50.0
    latency: float = 50.0


class Verdict(Struct, frozen=True):
    """`cause` None: it stays. `words` say why."""

    cause: Cause | None
    words: str


def judge(found: Mapping[int, Figures], canary: int, pinned: int, bounds: Bounds) -> Verdict:
    """What becomes of version `canary`, by the figures of each version."""
    new, old = found.get(canary, Figures()), found.get(pinned, Figures())
    if new.turns < bounds.turns:
        return Verdict(None, f"{new.turns} turns of {bounds.turns}")
    if old.turns < bounds.turns:
        if new.failing > HOPELESS:
            return Verdict("errors", f"{new.failed} of {new.turns} turns failed")
        return Verdict(
            None, f"version {pinned} has {old.turns} turns of {bounds.turns} to compare with"
        )
    if (more := _fails_more(new, old)) and more * 100 > bounds.errors:
        return Verdict(
            "errors", f"{_percent(new)} of turns fail, {_percent(old)} of version {pinned}"
        )
    if new.cost_usd > old.cost_usd * (1 + bounds.cost / 100):
        words = f"a turn costs ${new.cost_usd:.4f}, ${old.cost_usd:.4f} on version {pinned}"
        return Verdict("cost", words)
    if new.p95_seconds > old.p95_seconds * (1 + bounds.latency / 100):
        words = f"95 % of turns within {new.p95_seconds:.1f} s, {old.p95_seconds:.1f} s on version {pinned}"
        return Verdict("latency", words)
    return Verdict(None, f"{new.turns} turns, no worse than {old.turns} of version {pinned}")


def _fails_more(new: Figures, old: Figures) -> float:
    """By how much more it fails, 0 where that may be chance."""
    more = new.failing - old.failing
    both = (new.failed + old.failed) / (new.turns + old.turns)
    error = sqrt(both * (1 - both) * (1 / new.turns + 1 / old.turns))
    return more if more > SURE * error else 0.0


def _percent(one: Figures) -> str:
    return f"{100 * one.failing:.1f} %"
