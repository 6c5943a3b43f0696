"""Waits for a fact, by asking again until a deadline, never for a time."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable
from typing import TypeVar

_T = TypeVar("_T")
PATIENCE_S = 60.0
_PAUSE_S = 0.04


async def eventually(
    ask: Callable[[], Awaitable[_T | None]], what: str, timeout: float = PATIENCE_S
) -> _T:
    """The first answer of `ask` that is neither None nor False.

    AssertionError naming `what` when there is none within `timeout` seconds.
    """
    deadline = time.monotonic() + timeout
    while True:
        answer = await ask()
        if answer is not None and answer is not False:
            return answer
        assert time.monotonic() < deadline, f"after {timeout:.0f} s still not: {what}"
        await asyncio.sleep(_PAUSE_S)
