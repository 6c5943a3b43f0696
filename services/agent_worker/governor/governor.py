"""Lets requests go within every limit that is set; a lane without one is free."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar

from services.agent_worker.governor.pacer import Held, Pacer
from services.agent_worker.governor.supply import CREATE_SHARES, REQUEST_SHARES, Plan, Supply, plan
from services.agent_worker.ports import Tokens
from shared import metrics, telemetry

_tenant: ContextVar[str] = ContextVar("turnstile_tenant", default="")
_lane: ContextVar[str | None] = ContextVar("turnstile_lane", default=None)


@contextmanager
def working_for(tenant: str) -> Iterator[None]:
    """Requests of this task, and of tasks it starts, are the tenant's."""
    before = _tenant.set(tenant)
    try:
        yield
    finally:
        _tenant.reset(before)


@contextmanager
def in_lane(lane: str) -> Iterator[None]:
    """Requests of this task, and of tasks it starts, take this lane whatever they ask."""
    before = _lane.set(lane)
    try:
        yield
    finally:
        _lane.reset(before)


def tenant() -> str:
    """Whose work this is; "" for the worker's own."""
    return _tenant.get()


def lane_or(usual: str) -> str:
    """The lane this task was put in, else the usual one."""
    return _lane.get() or usual


# Shorter waits are not worth an attribute.
NOTED_SECONDS = 0.05
# A 429 that says nothing of when.
PAUSE_SECONDS = 1.0
REQUESTS, CREATES = "requests", "creates"
SHARES = {REQUESTS: REQUEST_SHARES, CREATES: CREATE_SHARES}


class Governor:
    """Holds requests back so that all workers together stay under the limits: requests per minute by limit
    (`requests`, `creates`), 0 for none. `account` makes the shared account of a plan."""

    def __init__(
        self,
        limits: Mapping[str, int],
        account: Callable[[Plan], Tokens],
        *,
        patience: float,
        chance: Callable[[], float],
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        self._pacers: list[Pacer] = []
        self._of: dict[str, Pacer] = {}
        for name, per_minute in limits.items():
            if per_minute:
                made = plan(name, per_minute, SHARES[name])
                supply = Supply(made, per_minute, account(made), monotonic)
                pacer = Pacer(made, supply, patience=patience, chance=chance)
                self._pacers.append(pacer)
                self._of.update(dict.fromkeys(made.shares, pacer))

    async def admit(self, lane: str, tenant: str) -> Held | None:
        """Wait until the request may go: None; or why it may not, after `patience` seconds at the latest."""
        pacer = self._of.get(lane)
        if pacer is None:
            return None
        began = time.perf_counter()
        try:
            await pacer.admit(lane, tenant)
        except Held as held:
            metrics.inc("turnstile_rate_held_total", lane=lane, reason=held.reason)
            return held
        waited = time.perf_counter() - began
        metrics.observe("turnstile_rate_wait_seconds", waited, lane=lane)
        if waited >= NOTED_SECONDS:
            telemetry.note({"turnstile.rate.lane": lane, "turnstile.rate.waited_seconds": waited})
        return None

    def refused(self, lane: str, retry_after: float | None) -> None:
        """The provider answered 429: nobody sends anything in this lane for as long as it asked for."""
        if (pacer := self._of.get(lane)) is not None:
            metrics.inc("turnstile_rate_pauses_total", lane=lane)
            pacer.pause(lane, PAUSE_SECONDS if retry_after is None else retry_after)

    async def close(self) -> None:
        """Admit nobody any more."""
        for pacer in self._pacers:
            await pacer.close()
