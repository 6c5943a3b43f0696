"""The gateway's capacity: how many requests work on the log or the database at once, and how many wait for that."""

from __future__ import annotations

import asyncio
import contextlib
from collections import deque

from shared.errors import Transient

# A part that does not answer lets everyone inside go within five seconds: who waits longer than this is told so.
PATIENCE_SECONDS = 20.0
RETRY_SECONDS = 1.0


class Gate:
    """`async with gate`: `at_once` are inside, `waiting` more wait for their turn in the order they came.

    Raises Transient (`overloaded`) at once when more than that come, and after PATIENCE_SECONDS of waiting.
    """

    def __init__(self, at_once: int, waiting: int) -> None:
        self._free = at_once
        self._most = waiting
        self._waiting: deque[asyncio.Future[None]] = deque()

    async def __aenter__(self) -> None:
        if self._free:
            self._free -= 1
        else:
            await self._wait()

    async def __aexit__(self, *_: object) -> None:
        while self._waiting:
            place = self._waiting.popleft()
            if not place.done():
                place.set_result(None)
                return
        self._free += 1

    async def _wait(self) -> None:
        """A place is handed on by who leaves."""
        if len(self._waiting) >= self._most:
            raise _overloaded()
        place = asyncio.get_running_loop().create_future()
        self._waiting.append(place)
        try:
            async with asyncio.timeout(PATIENCE_SECONDS):
                await place
        except BaseException as error:
            if place.done() and not place.cancelled():  # handed on just before
                await self.__aexit__()
            else:
                with contextlib.suppress(ValueError):  # whoever left meanwhile passed over it
                    self._waiting.remove(place)
            if isinstance(error, TimeoutError):
                raise _overloaded() from error
            raise


def _overloaded() -> Transient:
    return Transient(
        "overloaded",
        "more requests are waiting than this gateway takes on at once: try again",
        retry_after=RETRY_SECONDS,
    )
