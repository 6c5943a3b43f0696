"""One way to wait and try again, on `stamina`: growing waits, chance only as it is given, few log lines."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import TypeVar

import stamina
from stamina.instrumentation import set_on_retry_hooks

# Failures are told by who waits, in the words of what it waits for; stamina would log and count each by itself.
set_on_retry_hooks(())

T = TypeVar("T")
Errors = type[Exception] | tuple[type[Exception], ...] | Callable[[Exception], bool]


async def patiently(
    ask: Callable[[], Awaitable[T]],
    *,
    on: Errors,
    first: float,
    longest: float,
    say: Callable[[int, Exception], object],
    tries: int | None = None,
    chance: Callable[[], float] | None = None,
) -> T:
    """What `ask` returns, asked again after each error that `on` names, `tries` times at most (None: for ever).

    The first wait is `first` seconds, each further one twice as long, up to `longest`; with `chance` (0 to 1) a
    share of it from a half to the whole. `say` gets the number of failures and the error after the first, the
    fifth and every thirtieth. Raises every other error at once, and the last one when no try is left.
    """
    failures = 0

    def again(error: Exception) -> bool | float:
        """The seconds until the next try; False for an error that is not tried again."""
        nonlocal failures
        if not _is(error, on):
            return False
        failures += 1
        if failures in (1, 5) or failures % 30 == 0:
            say(failures, error)
        # Twenty doublings are longer than any wait.
        wait = min(longest, first * 2.0 ** min(failures - 1, 20))
        return wait * (0.5 + chance() / 2) if chance else wait

    async for attempt in stamina.retry_context(on=again, attempts=tries, timeout=None):
        with attempt:
            return await ask()
    raise AssertionError("the last try returns or raises")


def _is(error: BaseException, on: Errors) -> bool:
    """Whether an error is to be tried again. What is no Exception (a cancellation) never is."""
    if not isinstance(error, Exception):
        return False
    return isinstance(error, on) if isinstance(on, (type, tuple)) else on(error)
