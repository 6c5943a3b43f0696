"""Gives out the tokens of one limit: lanes apart, tenants in turns.

Tokens are taken for all who wait at once, and a few ahead for those who will come in the next quarter of a second:
a busy worker asks the shared account a few times a second, not once a request.
"""

from __future__ import annotations

import asyncio
import contextlib
import math
from collections import Counter, OrderedDict
from collections.abc import Callable
from contextvars import Context
from typing import Generic, TypeVar

from services.agent_worker.governor.supply import AHEAD_SECONDS, Plan, Supply
from services.agent_worker.ports import Grant
from shared import metrics

T = TypeVar("T")


class FairQueue(Generic[T]):
    """Up to `bound` hashable items, each once. Taking and dropping cost the same however many wait, and so does
    putting while there is room."""

    def __init__(self, bound: int) -> None:
        self._bound = bound
        self._tenants: OrderedDict[str, OrderedDict[T, None]] = OrderedDict()
        self._count = 0

    def __len__(self) -> int:
        return self._count

    def put(self, tenant: str, item: T) -> T | None:
        """Add an item; returns the one that had to go for it, which may be itself: the newest of the tenant that
        has most. None while there is room."""
        self._tenants.setdefault(tenant, OrderedDict())[item] = None
        self._count += 1
        if self._count <= self._bound:
            return None
        most = max(self._tenants, key=lambda name: len(self._tenants[name]))
        newest = next(reversed(self._tenants[most]))
        self.drop(most, newest)
        return newest

    def take(self) -> T | None:
        """Take the next item out; None when there is none."""
        if not self._tenants:
            return None
        tenant, items = next(iter(self._tenants.items()))
        item, _ = items.popitem(last=False)
        self._count -= 1
        if items:
            self._tenants.move_to_end(tenant)
        else:
            del self._tenants[tenant]
        return item

    def drop(self, tenant: str, item: T) -> None:
        """Take this item out, if it is there."""
        items = self._tenants.get(tenant)
        if items is None or item not in items:
            return
        del items[item]
        self._count -= 1
        if not items:
            del self._tenants[tenant]


# Requests of one lane that may wait.
MAX_WAITING = 10_000
# How soon, and how late, the account is asked again by those who got nothing. Drawn, so that workers take turns.
SOONEST, LATEST = 0.1, 1.0
# A pause is tried out after this long, whatever the provider asked for.
LONGEST_PAUSE = 60.0
Ticket = asyncio.Future[None]


class Held(Exception):
    """A request may not go now. `reason`: timeout, full or paused; `retry_after` in seconds."""

    def __init__(self, reason: str, retry_after: float) -> None:
        super().__init__(f"{reason}, retry after {retry_after:.0f} s")
        self.reason = reason
        self.retry_after = retry_after


class Pacer:
    """Admits requests under one plan; each waits for `patience` seconds at most."""

    def __init__(
        self, plan: Plan, supply: Supply, *, patience: float, chance: Callable[[], float]
    ) -> None:
        self._plan = plan
        self._supply = supply
        self._patience = patience
        self._chance = chance
        self._queues = {lane: FairQueue[Ticket](MAX_WAITING) for lane in plan.shares}
        self._ahead = Counter[str]()
        self._ahead_until = 0.0
        self._used = Counter[str]()
        self._paused: dict[str, float] = {}
        self._untold: dict[str, float] = {}
        self._news = asyncio.Event()
        self._serving: asyncio.Task[None] | None = None

    async def admit(self, lane: str, tenant: str) -> None:
        """Return when a request of this lane and tenant may go. Raises Held when it may not in time."""
        if (pause := self._pause_left(lane)) > self._patience:
            raise Held("paused", pause)
        if not len(self._queues[lane]) and pause <= 0 and self._from_ahead(lane):
            return
        ticket = asyncio.get_running_loop().create_future()
        self._put(lane, tenant, ticket)
        try:
            async with asyncio.timeout(self._patience):
                await ticket
        except TimeoutError:
            raise Held("timeout", self._queue_seconds(lane)) from None
        finally:
            self._queues[lane].drop(tenant, ticket)
            self._count(lane)

    def pause(self, lane: str, seconds: float) -> None:
        """Let no request of the lane go for so long, in this worker and in all others."""
        until = self._now() + min(max(seconds, 0.0), LONGEST_PAUSE)
        if until > self._paused.get(lane, 0.0):
            self._paused[lane] = self._untold[lane] = until
            del self._ahead[lane]
            self._serve()

    async def close(self) -> None:
        """Serve nobody any more."""
        if self._serving is not None:
            self._serving.cancel()
            await asyncio.gather(self._serving, return_exceptions=True)
        await self._supply.close()

    # ---- waiting ----------------------------------------------------------------------------------------------

    def _put(self, lane: str, tenant: str, ticket: Ticket) -> None:
        queue = self._queues[lane]
        if not len(queue):
            self._news.set()  # a lane that nobody has asked for yet
        pushed_out = queue.put(tenant, ticket)
        if pushed_out is not None and not pushed_out.done():
            pushed_out.set_exception(Held("full", self._queue_seconds(lane)))
        self._count(lane)
        self._serve()

    def _count(self, lane: str) -> None:
        metrics.set_gauge("turnstile_rate_waiting", len(self._queues[lane]), lane=lane)

    def _queue_seconds(self, lane: str) -> float:
        """How long those who wait will take, at the lane's share."""
        per_second = self._plan.rate * self._plan.shares[lane]
        return min(LONGEST_PAUSE, 1.0 + math.ceil(len(self._queues[lane]) / per_second))

    # ---- serving ----------------------------------------------------------------------------------------------

    def _serve(self) -> None:
        if self._serving is None or self._serving.done():
            # In a context of its own: it works for all tenants, not for the one that came first.
            self._serving = asyncio.create_task(self._serve_all(), context=Context())

    async def _serve_all(self) -> None:
        """Take tokens and hand them out until nobody waits and the account knows of every pause."""
        while any(self._queues.values()) or self._untold:
            self._news.clear()
            grant = await self._take()
            self._hand_out(grant)
            if any(self._queues.values()):
                wait = min(max(grant.wait, SOONEST), LATEST) * (0.5 + self._chance())
                await self._until_news(wait)
            elif self._untold:
                await self._until_news(LATEST)

    async def _until_news(self, seconds: float) -> None:
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                await self._news.wait()

    async def _take(self) -> Grant:
        now = self._now()
        used, self._used = self._used, Counter()
        lately = now < self._ahead_until + AHEAD_SECONDS
        asks = {
            lane: len(queue) + (used[lane] if lately else 0)
            for lane, queue in self._queues.items()
            if self._pause_left(lane) <= 0
        }
        asks = {lane: count for lane, count in asks.items() if count}
        told = dict(self._untold)
        pauses = {lane: until - now for lane, until in told.items() if until > now}
        if not asks and not pauses:
            self._untold.clear()
            return Grant({}, wait=LATEST)
        grant, shared = await self._supply.take(asks, pauses)
        if shared:
            self._untold = {k: v for k, v in self._untold.items() if told.get(k) != v}
        else:
            self._untold = {k: v for k, v in self._untold.items() if v > self._now()}
        return grant

    def _hand_out(self, grant: Grant) -> None:
        now = self._now()
        for lane, seconds in grant.paused.items():
            self._paused[lane] = max(self._paused.get(lane, 0.0), now + seconds)
        self._ahead.clear()
        self._ahead_until = now + AHEAD_SECONDS
        for lane, count in grant.given.items():
            left = self._to_waiting(lane, count)
            if left and self._pause_left(lane) <= 0:
                self._ahead[lane] = left
        for lane in grant.paused:
            self._refuse_if_too_long(lane)

    def _to_waiting(self, lane: str, count: int) -> int:
        """Give tokens to those who wait; returns how many are left over."""
        while count and (ticket := self._queues[lane].take()) is not None:
            if not ticket.done():
                ticket.set_result(None)
                self._used[lane] += 1
                count -= 1
        return count

    def _refuse_if_too_long(self, lane: str) -> None:
        if (pause := self._pause_left(lane)) > self._patience:
            while (ticket := self._queues[lane].take()) is not None:
                if not ticket.done():
                    ticket.set_exception(Held("paused", pause))

    def _from_ahead(self, lane: str) -> bool:
        if not self._ahead[lane] or self._now() >= self._ahead_until:
            return False
        self._ahead[lane] -= 1
        self._used[lane] += 1
        return True

    def _pause_left(self, lane: str) -> float:
        return self._paused.get(lane, 0.0) - self._now()

    def _now(self) -> float:
        return asyncio.get_running_loop().time()
