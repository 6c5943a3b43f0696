"""Side effects of a worker, counted, and cut off at the k-th.

Every side effect of one worker passes through `Effects.do`, is counted and takes time on the way there and back. A
`Halt` names one of them and a moment, before it or after it and before its answer, at which the whole process dies
(`Crash`, as with kill -9) or stands still until it is let go on (as with SIGSTOP). What only reads is not counted,
but a dead process reads nothing and a frozen one waits.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from typing import Literal, TypeVar

T = TypeVar("T")
When = Literal["before", "after"]


class Crash(BaseException):
    """The process is dead: nobody may catch this."""


@dataclass(frozen=True)
class Halt:
    """Stop at the `k`-th effect, counted from 1."""

    k: int
    when: When
    how: Literal["crash", "freeze"] = "crash"


@dataclass(frozen=True)
class Tempo:
    """Seconds that one way takes."""

    name: str
    store: float
    publisher: float
    provider: float


@dataclass
class Effects:
    """One process's effects; `done` names those that were begun, in order. `fails` has what the next ones of a name
    raise instead of happening, `slow` how many seconds more those of a name take on their way. Of a feed, "watch"
    and "next" may fail or be slow; the first `repeats` batches of it bring the batch before them along."""

    halt: Halt | None = None
    done: list[str] = field(default_factory=list)
    fails: dict[str, list[Exception]] = field(default_factory=dict)
    slow: dict[str, float] = field(default_factory=dict)
    repeats: int = 0
    dead: bool = False
    halted: asyncio.Event = field(default_factory=asyncio.Event)
    going: asyncio.Event = field(default_factory=asyncio.Event)

    def __post_init__(self) -> None:
        self.going.set()

    async def do(self, name: str, seconds: float, act: Callable[[], Awaitable[T]]) -> T:
        """Do it, `seconds` away."""
        await self.alive(seconds)
        self.done.append(name)
        k = len(self.done)
        await self.alive(self.slow.get(name, 0.0))
        await self._halt(k, "before")
        self.fail(name)
        try:
            return await act()
        finally:
            await self._halt(k, "after")
            await self.alive(seconds)

    def fail(self, name: str) -> None:
        """Raises what the next one of that name is to raise, if anything."""
        if failures := self.fails.get(name):
            raise failures.pop(0)

    async def alive(self, seconds: float = 0.0) -> None:
        """Let `seconds` pass; waits while frozen. Raises Crash in a dead process."""
        if not self.dead and seconds:
            await asyncio.sleep(seconds)
        if not self.dead and not self.going.is_set():
            await self.going.wait()
        if self.dead:
            raise Crash

    async def _halt(self, k: int, when: When) -> None:
        if self.halt is None or (self.halt.k, self.halt.when) != (k, when):
            return
        self.halted.set()
        if self.halt.how == "crash":
            self.dead = True
        else:
            self.going.clear()
        await self.alive()
