"""The gateway's capacity: how many requests work on the log or the database at once, and how many wait for that."""

from __future__ import annotations

import asyncio

from shared.errors import Transient

# A part that does not answer lets everyone inside go within five seconds: who waits longer than this is told so.
PATIENCE_SECONDS = 20.0
RETRY_SECONDS = 1.0


class Gate:
    """`async with gate`: `at_once` are inside, `waiting` more wait for their turn in the order they came.

    Raises Transient (`overloaded`) at once when more than that come, and after PATIENCE_SECONDS of waiting.
    """

    def __init__(self, at_once: int, waiting: int) -> None:
        self._places = asyncio.Semaphore(at_once)
        self._most = waiting
        self._waiting = 0

    async def __aenter__(self) -> None:
        if not self._places.locked():
            await self._places.acquire()  # does not wait
            return
        if self._waiting >= self._most:
            raise _overloaded()
        self._waiting += 1
        try:
            async with asyncio.timeout(PATIENCE_SECONDS):
                await self._places.acquire()
        except TimeoutError as error:
            raise _overloaded() from error
        finally:
            self._waiting -= 1

    async def __aexit__(self, *_: object) -> None:
        self._places.release()


def _overloaded() -> Transient:
    return Transient(
        "overloaded",
        "more requests are waiting than this gateway takes on at once: try again",
        retry_after=RETRY_SECONDS,
    )
