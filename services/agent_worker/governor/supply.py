"""This process's tokens: from the account that all workers share; while it is away, a part of it."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping

from msgspec import Struct

from services.agent_worker.governor import supply
from services.agent_worker.governor.settings import LEAST_PER_MINUTE
from services.agent_worker.ports import Grant, Tokens
from shared import logs, metrics
from shared.errors import Transient

URGENT, SEND, LIST, RECONNECT = "urgent", "send", "list", "reconnect"
BACKGROUND, CREATE = "background", "create"
# What is left to a lane however busy the others are. What a lane does not use, any other may, in this order: who is
# further along goes first, or after a restart all streams would open before the first session is whole.
REQUEST_SHARES = {URGENT: 0.15, SEND: 0.25, LIST: 0.25, RECONNECT: 0.25, BACKGROUND: 0.1}
CREATE_SHARES = {CREATE: 1.0}
WINDOW_SECONDS = 60.0
# Tokens that were taken ahead are void after this long.
AHEAD_SECONDS = 0.25


class Plan(Struct, frozen=True):
    """One limit. `rate`: tokens a second over all lanes; `shares` add up to 1; `own` and `common`: how many tokens
    a lane, and all of them together, may save up."""

    name: str
    rate: float
    shares: Mapping[str, float]
    own: Mapping[str, float]
    common: float


def plan(name: str, per_minute: int, shares: Mapping[str, float]) -> Plan:
    """A plan such that no 60 seconds, wherever they begin, see more than `per_minute` tokens used.

    What can be saved up may go at once and is taken off what flows in a minute; a lane can always save one token,
    or it could never use its share. `per_minute` is 10 at least.
    """
    own = {lane: max(1.0, share * per_minute * 0.04) for lane, share in shares.items()}
    common = per_minute * 0.04
    flowing = max(per_minute * 0.1, per_minute - common - sum(own.values()))
    return Plan(name, flowing / (WINDOW_SECONDS + AHEAD_SECONDS), shares, own, common)


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


# How long an answer of the shared account is waited for, and when it is asked again after it failed.
PATIENCE_SECONDS = 0.5
AGAIN_SECONDS = 1.0
# What a worker allows itself while it can't ask; how many others do the same it does not know.
ALONE = 0.25
log = logs.get(__name__)


class Supply:
    """Takes tokens for one plan. Never raises, and never takes longer than PATIENCE_SECONDS."""

    def __init__(
        self, plan_: Plan, per_minute: int, tokens: Tokens, monotonic: Callable[[], float]
    ) -> None:
        alone = max(LEAST_PER_MINUTE, int(per_minute * ALONE))
        self._alone = plan(plan_.name, alone, plan_.shares)
        self._level = supply.full(self._alone, monotonic())
        self._tokens = tokens
        self._monotonic = monotonic
        self._asked: asyncio.Task[Grant] | None = None
        self._again = monotonic()
        self._away = False

    async def take(
        self, asks: Mapping[str, int], pauses: Mapping[str, float]
    ) -> tuple[Grant, bool]:
        """See Tokens.take; and whether the shared account gave the answer, and so knows of the pauses."""
        now = self._monotonic()
        if self._asked is not None and self._asked.done():
            # It came too late for those who waited; what it took is lost.
            self._asked = None
        if self._asked is None and now >= self._again:
            self._asked = asyncio.create_task(self._ask(dict(asks), dict(pauses)))
            await asyncio.wait({self._asked}, timeout=PATIENCE_SECONDS)
            if self._asked.done():
                asked, self._asked = self._asked, None
                if (error := asked.exception()) is None:
                    self._say(None)
                    return self._counted(asked.result(), "shared"), True
                self._say(error)
            else:
                self._say(TimeoutError())
            self._again = self._monotonic() + AGAIN_SECONDS
        self._level, grant = supply.take(self._level, self._alone, self._monotonic(), asks, pauses)
        return self._counted(grant, "alone"), False

    async def close(self) -> None:
        """Ask for nothing more."""
        if self._asked is not None:
            self._asked.cancel()
            await asyncio.gather(self._asked, return_exceptions=True)

    async def _ask(self, asks: Mapping[str, int], pauses: Mapping[str, float]) -> Grant:
        return await self._tokens.take(asks, pauses)

    def _say(self, error: BaseException | None) -> None:
        if (error is not None) == self._away:
            return
        self._away = error is not None
        if error is None:
            log.info("rate_account_back", limit=self._alone.name)
        else:
            reason = error.reason if isinstance(error, Transient) else type(error).__name__
            log.warning("rate_account_away", limit=self._alone.name, reason=reason)

    def _counted(self, grant: Grant, source: str) -> Grant:
        for lane, count in grant.given.items():
            metrics.inc("turnstile_rate_tokens_total", count, lane=lane, source=source)
        return grant
