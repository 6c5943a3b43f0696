"""Many callers, one statement: what is asked while the database is busy is asked together the next time.

Nobody waits for company: a call with nothing under way goes at once. Two groups may be under way, so that one is
being prepared while the other is answered. A group is closed when it goes: what it reads is not older than any of
its calls.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from typing import Generic, TypeVar

A = TypeVar("A")
R = TypeVar("R")
UNDER_WAY = 2
LARGEST = 200


class Grouped(Generic[A, R]):
    """Calls `act` with up to LARGEST items at once; it returns one result for each, in their order.

    What `act` raises is raised to everyone in the group. A caller that is cancelled takes nobody with it, and what
    it asked for is done all the same.
    """

    def __init__(self, act: Callable[[Sequence[A]], Awaitable[Sequence[R]]]) -> None:
        self._act = act
        self._waiting: list[tuple[A, asyncio.Future[R]]] = []
        self._under_way: set[asyncio.Task[None]] = set()

    async def __call__(self, item: A) -> R:
        answer: asyncio.Future[R] = asyncio.get_running_loop().create_future()
        self._waiting.append((item, answer))
        self._go()
        return await answer

    def _go(self) -> None:
        if self._waiting and len(self._under_way) < UNDER_WAY:
            task = asyncio.create_task(self._group())
            self._under_way.add(task)
            task.add_done_callback(self._ended)

    def _ended(self, task: asyncio.Task[None]) -> None:
        self._under_way.discard(task)
        self._go()

    async def _group(self) -> None:
        group, self._waiting = self._waiting[:LARGEST], self._waiting[LARGEST:]
        if not group:  # the group that went just before took them all
            return
        try:
            results = await self._act([item for item, _ in group])
        except BaseException as error:
            for _, answer in group:
                if not answer.done():
                    answer.set_exception(error)
            if not isinstance(error, Exception):
                raise
        else:
            for (_, answer), result in zip(group, results, strict=True):
                if not answer.done():
                    answer.set_result(result)
