"""A bound in time that many share: what `asyncio.timeout` does for one, with one timer for all of them."""

from __future__ import annotations

import asyncio
from collections import deque
from types import TracebackType


class Patience:
    """`with patience():` around awaits of one task raises TimeoutError once they have taken `seconds`.

    One event loop owns it. All wait equally long, so who came first is the first to be given up.
    """

    def __init__(self, seconds: float) -> None:
        self._seconds = seconds
        self._waits: deque[_Wait] = deque()
        self._timer: asyncio.TimerHandle | None = None

    def __call__(self) -> _Wait:
        """To be entered at once, by the task that waits."""
        loop, waits = asyncio.get_running_loop(), self._waits
        while waits and waits[0].over:
            waits.popleft()
        wait = _Wait(loop.time() + self._seconds)
        waits.append(wait)
        if self._timer is None:
            self._timer = loop.call_at(wait.until, self._look)
        return wait

    def _look(self) -> None:
        loop, waits = asyncio.get_running_loop(), self._waits
        while waits and (waits[0].over or waits[0].until <= loop.time()):
            waits.popleft().give_up()
        self._timer = loop.call_at(waits[0].until, self._look) if waits else None


class _Wait:
    __slots__ = ("_cancelling", "_given_up", "_task", "over", "until")

    def __init__(self, until: float) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._task = task
        # How often others had asked for an end by then.
        self._cancelling = task.cancelling()
        self._given_up = False
        self.until = until
        self.over = False

    def give_up(self) -> None:
        if not self.over:
            self._given_up = True
            self._task.cancel()

    def __enter__(self) -> None:
        """The bound holds since the call."""

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        at: TracebackType | None,
    ) -> None:
        self.over = True
        if not self._given_up:
            return
        others = self._task.uncancel() > self._cancelling
        if kind is not None and issubclass(kind, asyncio.CancelledError) and not others:
            raise TimeoutError from error
