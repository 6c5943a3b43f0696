"""A token bucket. Pure: the state, the time and the wishes come in.

Each lane has a bucket of its own that fills by its share. What overflows goes into one that is common to all lanes,
so nothing is lost while somebody wants it, and a lane that asks for its share gets it whatever the others do.
"""

from __future__ import annotations

from collections.abc import Mapping

from msgspec import Struct

from services.agent_worker.governor.plan import Plan
from services.agent_worker.ports import Grant

# Sums of shares fall short of a whole token by rounding.
ROUNDING = 1e-6


class Level(Struct, frozen=True):
    """What the buckets hold at the moment `at` (seconds). `paused`: until when a lane gets nothing."""

    at: float
    common: float
    lanes: dict[str, float]
    paused: dict[str, float] = {}


def full(plan: Plan, now: float) -> Level:
    """All buckets full."""
    return Level(now, plan.common, dict(plan.own))


def take(
    level: Level, plan: Plan, now: float, asks: Mapping[str, int], pauses: Mapping[str, float]
) -> tuple[Level, Grant]:
    """Pause lanes for that many seconds (a longer pause stays), then give as much of `asks` as there is.

    Lanes are served in the plan's order; a paused one gets nothing. A clock that went back counts as one that
    stood.
    """
    filled = _refilled(level, plan, now)
    paused = {lane: until for lane, until in level.paused.items() if until > now}
    for lane, seconds in pauses.items():
        paused[lane] = max(paused.get(lane, now), now + seconds)
    lanes, common, given = dict(filled.lanes), filled.common, dict[str, int]()
    for lane in plan.shares:
        if paused.get(lane, now) > now or not asks.get(lane):
            continue
        got = min(asks[lane], int(lanes[lane] + common + ROUNDING))
        from_own = min(lanes[lane], got)
        lanes[lane] -= from_own
        common = max(0.0, common - (got - from_own))
        given[lane] = got
    left = Level(filled.at, common, lanes, paused)
    wait = _wait(left, plan, now, {lane: asks[lane] - given.get(lane, 0) for lane in asks})
    return left, Grant(given, wait, {lane: until - now for lane, until in paused.items()})


def _refilled(level: Level, plan: Plan, now: float) -> Level:
    new = max(0.0, now - level.at) * plan.rate
    common, lanes = level.common, dict[str, float]()
    for lane, share in plan.shares.items():
        held = level.lanes.get(lane, 0.0) + new * share
        lanes[lane] = min(held, plan.own[lane])
        common += held - lanes[lane]
    return Level(max(level.at, now), min(common, plan.common), lanes)


def _wait(level: Level, plan: Plan, now: float, missing: Mapping[str, int]) -> float:
    """Seconds after which the first of the lanes that miss something may get a token; 0 when none misses any."""
    waits = [
        max(
            (1.0 - level.lanes[lane] - level.common) / plan.rate,
            level.paused.get(lane, now) - now,
            0.0,
        )
        for lane, count in missing.items()
        if count > 0
    ]
    return min(waits, default=0.0)
