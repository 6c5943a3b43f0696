"""An event loop whose time passes only when nothing else is left to do: waits cost nothing, runs repeat exactly."""

from __future__ import annotations

import asyncio
import functools
import selectors
from collections import Counter
from collections.abc import Callable, Coroutine
from contextvars import Context
from typing import Any, ParamSpec, TypeVar, TypeVarTuple, Unpack

T = TypeVar("T")
P = ParamSpec("P")
Ts = TypeVarTuple("Ts")


class Leaping(selectors.SelectSelector):
    """A selector that does not wait: it moves `now` (seconds) to the moment the loop wanted to wake at."""

    now = 0.0

    def select(self, timeout: float | None = None) -> list[tuple[selectors.SelectorKey, int]]:
        if timeout is None:
            raise RuntimeError("everything waits, and nothing is left that could happen")
        self.now += max(timeout, 0.0)
        return []


# By how many seconds a timer is later than the one that was set before it for the same moment: less than what is
# written into events, and still told apart after a day of float seconds.
APART = 1e-10


class VirtualLoop(asyncio.SelectorEventLoop):
    """See the module; starts at second 0. Timers for the same moment ring in the order in which they were set: the
    heap behind asyncio's does not keep it, and no two moments of a real clock are the same."""

    def __init__(self) -> None:
        self._leaping = Leaping()
        self._timers: Counter[float] = Counter()
        super().__init__(self._leaping)

    def call_at(
        self,
        when: float,
        callback: Callable[[Unpack[Ts]], object],
        *args: *Ts,
        context: Context | None = None,
    ) -> asyncio.TimerHandle:
        before = self._timers[when]
        self._timers[when] += 1
        return super().call_at(when + before * APART, callback, *args, context=context)

    def time(self) -> float:
        return self._leaping.now


def run(main: Coroutine[Any, Any, T]) -> T:
    """Run `main` to its end in virtual time. To be called where no loop runs; leaves none behind."""
    loop = VirtualLoop()
    try:
        return loop.run_until_complete(main)
    finally:
        _end(loop)
        loop.close()


def virtual(test: Callable[P, Coroutine[Any, Any, None]]) -> Callable[P, None]:
    """The test, in virtual time."""

    @functools.wraps(test)
    def in_virtual_time(*args: P.args, **kwargs: P.kwargs) -> None:
        run(test(*args, **kwargs))

    return in_virtual_time


def _end(loop: asyncio.AbstractEventLoop) -> None:
    tasks = asyncio.all_tasks(loop)
    for task in tasks:
        task.cancel()
    if tasks:
        loop.run_until_complete(asyncio.gather(*tasks, return_exceptions=True))
