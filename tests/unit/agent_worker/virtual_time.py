"""An event loop whose time passes only when nothing else is left to do: waits cost nothing, runs repeat exactly."""

from __future__ import annotations

import asyncio
import itertools
import selectors
from collections import deque
from collections.abc import Callable, Coroutine
from contextvars import Context, copy_context
from functools import partial, wraps
from heapq import heappop, heappush
from typing import Any, ParamSpec, TypeVar, TypeVarTuple, Unpack

T = TypeVar("T")
P = ParamSpec("P")
Ts = TypeVarTuple("Ts")


class Call(asyncio.TimerHandle):
    """What a loop was asked to call, at once or later: asyncio's own without what that keeps to be looked at."""

    __slots__ = ("act",)

    def __init__(
        self, callback: Callable[..., object], args: tuple[Any, ...], context: Context | None
    ) -> None:
        run = (copy_context() if context is None else context).run
        self.act: Callable[[], object] | None = partial(run, callback, *args)

    def cancel(self) -> None:
        self.act = None

    def cancelled(self) -> bool:
        return self.act is None

    def __repr__(self) -> str:
        return f"<Call {self.act}>"


class VirtualLoop(asyncio.SelectorEventLoop):
    """See the module; starts at second 0. Timers for the same moment ring in the order in which they were set.

    The plays make millions of timers, so this loop does what asyncio's own does and nothing else: no files, no
    threads, no debugging, and a heap that compares numbers.
    """

    _ready: deque[
        Call
    ]  # asyncio's own: it ends a run by `_stopping`, and calls `_run_once` for ever
    _stopping: bool

    def __init__(self) -> None:
        super().__init__(selectors.SelectSelector())
        self._now = 0.0
        self._timers: list[tuple[float, int, Call]] = []
        self._numbers = itertools.count()

    def time(self) -> float:
        return self._now

    def call_soon(
        self,
        callback: Callable[[Unpack[Ts]], object],
        *args: *Ts,
        context: Context | None = None,
    ) -> asyncio.Handle:
        call = Call(callback, args, context)
        self._ready.append(call)
        return call

    call_soon_threadsafe = call_soon  # generators that are thrown away are closed by it

    def call_later(
        self,
        delay: float,
        callback: Callable[[Unpack[Ts]], object],
        *args: *Ts,
        context: Context | None = None,
    ) -> asyncio.TimerHandle:
        call = Call(callback, args, context)
        heappush(self._timers, (self._now + delay, next(self._numbers), call))
        return call

    def call_at(
        self,
        when: float,
        callback: Callable[[Unpack[Ts]], object],
        *args: *Ts,
        context: Context | None = None,
    ) -> asyncio.TimerHandle:
        call = Call(callback, args, context)
        heappush(self._timers, (when, next(self._numbers), call))
        return call

    def _run_once(self) -> None:
        """Call what is ready; when nothing is, time leaps to the next timer. Raises RuntimeError without any."""
        timers, ready = self._timers, self._ready
        while timers and timers[0][2].act is None:
            heappop(timers)
        if not ready and not self._stopping:
            if not timers:
                raise RuntimeError("everything waits, and nothing is left that could happen")
            self._now = max(self._now, timers[0][0])
        now = self._now
        while timers and timers[0][0] <= now:
            ready.append(heappop(timers)[2])
        for _ in range(len(ready)):
            act = ready.popleft().act
            if act is not None:
                try:
                    act()
                except (SystemExit, KeyboardInterrupt):
                    raise
                except BaseException as error:
                    self.call_exception_handler({"message": f"in {act}", "exception": error})


def run(main: Coroutine[Any, Any, T], make: Callable[[], VirtualLoop] = VirtualLoop) -> T:
    """Run `main` to its end in virtual time. To be called where no loop runs; leaves none behind."""
    loop = make()
    try:
        return loop.run_until_complete(main)
    finally:
        _end(loop)
        loop.close()


def virtual(test: Callable[P, Coroutine[Any, Any, None]]) -> Callable[P, None]:
    """The test, in virtual time."""

    @wraps(test)
    def in_virtual_time(*args: P.args, **kwargs: P.kwargs) -> None:
        run(test(*args, **kwargs))

    return in_virtual_time


def _end(loop: asyncio.AbstractEventLoop) -> None:
    tasks = asyncio.all_tasks(loop)
    for task in tasks:
        task.cancel()
    if tasks:
        loop.run_until_complete(asyncio.gather(*tasks, return_exceptions=True))
