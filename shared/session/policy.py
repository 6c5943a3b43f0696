"""How often and how long a turn is tried again: exponential backoff with full jitter.

Full jitter (a uniform draw from zero to the bound) spreads the tries of many clients best: M. Brooker, "Exponential
Backoff And Jitter", AWS Architecture Blog, 2015. Chance comes in as an argument.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime, timedelta

from msgspec import Struct

from shared.moment import parse, rfc3339
from shared.session.lifetimes import Lifetimes
from shared.session.prices import Prices


class Barred(Struct, frozen=True, kw_only=True):
    """Why the store let a turn not begin: `type` and words. `waits`: it may begin later; `chance` in [0, 1)."""

    type: str
    words: str
    waits: bool
    chance: float = 0.0


class Policy(Struct, frozen=True, kw_only=True):
    """Bounds in seconds. `longest_wait` also caps what the provider asks for in `Retry-After`: a wish for hours is
    answered by failing the turn in time, not by holding it past `give_up_after`. `coalesce_for`: how long a turn
    that may be coalesced waits for company. `answer_within`: what waits for people longer is denied; None waits for
    ever. `max_stalls`: silences after which the provider session is given up. `silent_for`: how long an agent that
    works may say nothing, `call_for`: how long one of its calls may take. `prices`: what tokens cost. `capped`:
    turns reserve money before they begin; `barred` are those that can't, by id.
    `lifetimes`: None leaves what rests at rest for ever. `prewarm_for`: how long a provider session that was made
    before any turn waits for one.
    """

    coalesce_for: float = 0.3
    answer_within: float | None = 24 * 3600.0
    max_stalls: int = 2
    silent_for: float = 900.0
    call_for: float = 7200.0
    max_attempts: int = 8
    give_up_after: float = 15 * 60
    first_wait: float = 1.0
    longest_wait: float = 120.0
    prices: Prices = Prices()
    lifetimes: Lifetimes | None = None
    prewarm_for: float = 300.0
    capped: bool = False
    barred: Mapping[str, Barred] = {}

    def next_retry(
        self, *, failures: int, since: str, at: str, chance: float, retry_after: float | None = None
    ) -> str | None:
        """When to try again after the `failures`-th failure (1 = the first), or None to give up.

        `since` is the time of the first failure, `at` the time of this one, `chance` a draw from [0, 1).
        """
        now, began = parse(at), parse(since)
        wait = chance * min(self.longest_wait, self.first_wait * 2 ** (failures - 1))
        if retry_after is not None:
            wait = max(wait, min(retry_after, self.longest_wait))
        due = now + timedelta(seconds=wait)
        if failures >= self.max_attempts or self._too_late(began, due):
            return None
        return rfc3339(due)

    def _too_late(self, began: datetime, due: datetime) -> bool:
        return (due - began).total_seconds() > self.give_up_after


DEFAULT = Policy()
MAX_QUEUED_TURNS = 100
