"""The number of sessions that wait for a driver, measured now and then for the operator."""

from __future__ import annotations

import asyncio
from typing import Protocol

from shared import logs, metrics
from shared.errors import Transient

LOOK_SECONDS = 5.0
log = logs.get(__name__)


class Sessions(Protocol):
    """All sessions there are, whoever drives them."""

    async def due(self) -> int:
        """How many have something to do and no driver. Raises Transient."""
        ...


async def report(sessions: Sessions, every: float = LOOK_SECONDS) -> None:
    """Say what `turnstile_sessions_due` stands at, each `every` seconds, until cancelled.

    While the database is away it stands at what was seen last.
    """
    while True:
        try:
            metrics.set_gauge("turnstile_sessions_due", await sessions.due())
        except Transient as error:
            log.warning("sessions_not_counted", reason=error.reason)
        await asyncio.sleep(every)
