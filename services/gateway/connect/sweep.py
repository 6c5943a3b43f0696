"""Links that expired long ago are forgotten."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from datetime import timedelta

from services.gateway.connect.ports import LinkStore
from shared import logs
from shared.clock import Clock
from shared.errors import Transient

# So long a page can say that a link is too old, and not only that there is none.
KEPT = timedelta(days=7)
EVERY_SECONDS = 3600.0
_log = logs.get("gateway.connect")


@dataclass(frozen=True, slots=True)
class Sweep:
    """Deletes rows of links, once an hour."""

    store: LinkStore
    clock: Clock

    async def run(self) -> None:
        """Never ends by itself. A database that is away is asked again an hour later."""
        while True:
            try:
                await self.once()
            except Transient as error:
                _log.warning("links_not_swept", reason=error.reason)
            await asyncio.sleep(EVERY_SECONDS)

    async def once(self) -> int:
        """How many there were. Raises Transient."""
        return await self.store.sweep((self.clock() - KEPT).timestamp())
