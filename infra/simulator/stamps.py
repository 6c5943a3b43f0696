"""The times that events carry, and how they are written.

The provider writes the shortest form that is exact: no fraction, milliseconds or microseconds.
Times of one session never go back; a coarse stamp is the true time rounded down, and only where
that keeps the order.
"""

from __future__ import annotations

import re
import time
from collections.abc import Callable
from datetime import UTC, datetime

from infra.simulator.chance import dice

SECOND = 1_000_000  # microseconds, the unit of every stamp here
MILLISECOND = 1_000
_FORM = re.compile(r"\d{4}-\d\d-\d\d[Tt ]\d\d:\d\d:\d\d(\.\d+)?([Zz]|[+-]\d\d:\d\d)")

Now = Callable[[], int]


def wall_clock() -> int:
    """Microseconds since the epoch."""
    return time.time_ns() // 1000


def written(micros: int) -> str:
    """`micros` as RFC 3339 in UTC with 0, 3 or 6 fraction digits, whichever is exact."""
    whole, part = divmod(micros, SECOND)
    base = time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(whole))
    if part == 0:
        return f"{base}Z"
    if part % MILLISECOND == 0:
        return f"{base}.{part // MILLISECOND:03d}Z"
    return f"{base}.{part:06d}Z"


def read(text: str) -> int:
    """Microseconds since the epoch of an RFC 3339 time with an offset. Raises ValueError otherwise."""
    if not _FORM.fullmatch(text):
        raise ValueError(f"not an RFC 3339 time with an offset: {text!r}")
    delta = datetime.fromisoformat(text.upper()) - datetime(1970, 1, 1, tzinfo=UTC)
    return (delta.days * 86_400 + delta.seconds) * SECOND + delta.microseconds


class Stamps:
    """The stamps of one session, strictly increasing, some of them coarse by the dice."""

    def __init__(self, now: Now, *key: object) -> None:
        self._now = now
        self._dice = dice("stamps", *key)
        self._last = 0

    def next(self) -> int:
        """The next event's time in microseconds: now, or just after the last one."""
        at = max(self._now(), self._last + 1)
        draw = self._dice.random()
        unit = SECOND if draw < 0.05 else MILLISECOND if draw < 0.2 else 1
        coarse = at - at % unit
        self._last = coarse if coarse > self._last else at
        return self._last
