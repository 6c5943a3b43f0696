"""The lease that a task works under, asked last: when the governor has let the request go and its bytes are
about to leave.

A session's driver looks at its lease before each call too; but a call may first read a list, or wait for its turn
under the rate limits, and a process may stand still in between.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar

_lasts: ContextVar[Callable[[], bool] | None] = ContextVar("turnstile_lease", default=None)


@contextmanager
def under_lease(lasts: Callable[[], bool]) -> Iterator[None]:
    """Requests of this task, and of tasks it starts, are made only while `lasts` answers True."""
    before = _lasts.set(lasts)
    try:
        yield
    finally:
        _lasts.reset(before)


def may_go() -> bool:
    """Whether the lease that this task works under still lasts; True for work that needs none."""
    lasts = _lasts.get()
    return lasts is None or lasts()
