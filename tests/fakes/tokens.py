"""Tokens in memory, with a clock that is handed in."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from services.agent_worker.governor import supply
from services.agent_worker.governor.supply import Plan
from services.agent_worker.ports import Grant


class MemoryTokens:
    """The Tokens port; workers that share one object share the account. `now` answers seconds."""

    def __init__(self, plan: Plan, now: Callable[[], float]) -> None:
        self._plan = plan
        self._now = now
        self._level = supply.full(plan, now())

    async def take(self, asks: Mapping[str, int], pauses: Mapping[str, float]) -> Grant:
        """See Tokens.take."""
        self._level, grant = supply.take(self._level, self._plan, self._now(), asks, pauses)
        return grant
