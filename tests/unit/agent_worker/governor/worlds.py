"""Pacers in virtual time, and what they let go when."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence

from services.agent_worker.governor.pacer import Held, Pacer
from services.agent_worker.governor.supply import REQUEST_SHARES, Plan, Supply, plan
from services.agent_worker.ports import Grant, Tokens
from shared.errors import Transient
from tests.fakes.tokens import MemoryTokens

PER_MINUTE = 1_200
PLAN = plan("requests", PER_MINUTE, REQUEST_SHARES)


def now() -> float:
    return asyncio.get_running_loop().time()


def account(of: Plan = PLAN) -> MemoryTokens:
    return MemoryTokens(of, now)


def pacer(tokens: Tokens, *, patience: float = 600.0) -> Pacer:
    supply = Supply(PLAN, PER_MINUTE, tokens, now)
    return Pacer(PLAN, supply, patience=patience, chance=lambda: 0.5)


class Gone:
    """Tokens that are away: at once, or without ever answering."""

    def __init__(self, *, silent: bool = False) -> None:
        self.asked = 0
        self.away = True
        self._silent = silent
        self._tokens = account()

    async def take(self, asks: Mapping[str, int], pauses: Mapping[str, float]) -> Grant:
        self.asked += 1
        if not self.away:
            return await self._tokens.take(asks, pauses)
        if self._silent:
            await asyncio.sleep(3_600.0)
        raise Transient("database_away", "gone")


class Calls:
    """Requests made at once, and the seconds at which they went."""

    def __init__(self, *pacers: Pacer) -> None:
        self._pacers = pacers
        self._tasks: list[asyncio.Task[None]] = []
        self.went: dict[str, list[float]] = {}
        self.held: list[Held] = []

    def ask(self, lane: str, tenant: str, count: int = 1) -> None:
        for n in range(count):
            one = self._pacers[n % len(self._pacers)]
            self._tasks.append(asyncio.create_task(self._one(one, lane, tenant)))

    async def _one(self, pacer: Pacer, lane: str, tenant: str) -> None:
        try:
            await pacer.admit(lane, tenant)
        except Held as held:
            self.held.append(held)
        else:
            self.went.setdefault(tenant, []).append(now())

    async def done(self) -> None:
        await asyncio.gather(*self._tasks)


def busiest_minute(times: Sequence[float]) -> int:
    """The most requests that any 60 seconds saw."""
    ordered, last, most = sorted(times), 0, 0
    for first, begin in enumerate(ordered):
        while last < len(ordered) and ordered[last] < begin + 60.0:
            last += 1
        most = max(most, last - first)
    return most
