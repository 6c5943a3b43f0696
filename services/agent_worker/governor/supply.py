"""This process's tokens: from the account that all workers share; while it is away, a part of it."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping

from services.agent_worker.governor import bucket
from services.agent_worker.governor.plan import Plan, plan
from services.agent_worker.governor.settings import LEAST_PER_MINUTE
from services.agent_worker.ports import Grant, Tokens
from shared import logs, metrics
from shared.errors import Transient

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
        self._level = bucket.full(self._alone, monotonic())
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
        self._level, grant = bucket.take(self._level, self._alone, self._monotonic(), asks, pauses)
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
