"""Reads of the tables that are no older than what this process's streams have told.

Streams hear of an event from the log, the tables from the projector, which is a process of its own: who has read on
a stream that a turn ended and asks for the turn must not be told that it runs.
"""

from __future__ import annotations

import asyncio
from dataclasses import dataclass

from services.gateway.ports import ReadModel
from services.gateway.streams.live import Ring
from shared.errors import Transient
from shared.session.key import SessionKey

LOOK_SECONDS = 0.02


@dataclass(frozen=True, slots=True)
class CaughtUp:
    """`heard`: events that this process heard of; `patience`: for how many seconds at most a row is waited for."""

    read_model: ReadModel
    heard: Ring
    patience: float

    async def wait(self, key: SessionKey) -> None:
        """Return when the session's row knows every event that was heard of at the call, or when patience ends:
        what the tables have is told then all the same. Returns at once without a database."""
        newest = self.heard.newest(key)
        looks = round(self.patience / LOOK_SECONDS) if newest else 0
        while looks and not await self._knows(key, newest):
            await asyncio.sleep(LOOK_SECONDS)
            looks -= 1

    async def _knows(self, key: SessionKey, seq: int) -> bool:
        try:
            page = await self.read_model.session(key)
        except Transient:
            return True
        return page is not None and page.view.last_seq >= seq
