"""Reads of the tables that are no older than what this process's streams have told.

Streams hear of an event from the log, the tables from the projector, which is a process of its own: who has read on
a stream that a turn ended and asks for the turn must not be told that it runs.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import TypeVar

from services.gateway.ports import ReadModel, TurnKey
from services.gateway.streams.live import Ring
from services.gateway.views import SessionPage, TurnView
from shared.session.key import SessionKey

LOOK_SECONDS = 0.05
_T = TypeVar("_T")


async def looked_for(
    look: Callable[[], Awaitable[_T]], good: Callable[[_T], bool], patience: float
) -> _T:
    """What `look` returns, as soon as it is good, or after `patience` seconds as it is then."""
    found, looks = await look(), round(patience / LOOK_SECONDS)
    while looks and not good(found):
        await asyncio.sleep(LOOK_SECONDS)
        found, looks = await look(), looks - 1
    return found


@dataclass(frozen=True, slots=True)
class CaughtUp:
    """`heard`: events that this process heard of; `patience`: for how many seconds at most a row is waited for."""

    read_model: ReadModel
    heard: Ring
    patience: float

    async def session(self, key: SessionKey) -> SessionPage | None:
        """The session's row, as soon as it knows every event that was heard of at the call; what the tables have
        when patience ends. Raises Transient."""
        newest = self.heard.newest(key)

        def knows(page: SessionPage | None) -> bool:
            return not newest or (page is not None and page.view.last_seq >= newest)

        return await looked_for(lambda: self.read_model.session(key), knows, self.patience)

    async def turn(self, key: TurnKey) -> TurnView | None:
        """The turn's row, likewise: it is written together with its session's. Raises Transient."""
        if self.heard.newest(key[:2]):
            await self.session(key[:2])
        return await self.read_model.turn(key)
