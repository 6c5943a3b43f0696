"""Leaves out lines that say again and again what is known.

A Kafka client without its broker logs the same failure many times a second for as long as it lasts, and a publisher
that writes rubbish makes a dead letter of every record. So many of a kind pass in a window, then none, and the
first one of a later window says how many were left out.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Hashable

from shared import metrics

WINDOW_S = 10.0
# More different kinds than this and the one that began longest ago is forgotten.
MAX_KEYS = 512
_LIBRARIES = ("aiokafka", "urllib3", "clickhouse_connect", "opentelemetry", "asyncio", "sqlalchemy")


class Flood:
    """Lets the first `most` of each kind through per window. `clock` gives seconds, never backwards."""

    def __init__(
        self,
        most: int = 1,
        window: float = WINDOW_S,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._most = most
        self._window = window
        self._clock = clock
        # By kind: when its window began, how many passed in it, how many were left out in all since one passed.
        self._seen: dict[Hashable, tuple[float, int, int]] = {}

    def passes(self, kind: Hashable) -> int | None:
        """How many of the kind were left out before this one, which passes; None when it is to be left out."""
        now = self._clock()
        since, passed, left_out = self._seen.get(kind, (now, 0, 0))
        if now - since >= self._window:
            since, passed = now, 0
        if passed >= self._most:
            self._seen[kind] = (since, passed, left_out + 1)
            return None
        if passed == 0:
            self._seen.pop(kind, None)
        self._seen[kind] = (since, passed + 1, 0)
        if len(self._seen) > MAX_KEYS:
            del self._seen[next(iter(self._seen))]
        return left_out


class FloodFilter(logging.Filter):
    """Lets one of each library message through per window; sets `repeated` on it. Our own lines all pass.

    Messages are the same when logger, level and the unformatted text are. `clock` gives seconds, never backwards.
    """

    def __init__(
        self, window: float = WINDOW_S, clock: Callable[[], float] = time.monotonic
    ) -> None:
        super().__init__()
        self._flood = Flood(1, window, clock)

    def filter(self, record: logging.LogRecord) -> bool:
        """Whether this line is printed."""
        if not record.name.startswith(_LIBRARIES) or not isinstance(record.msg, str):
            return True
        left_out = self._flood.passes((record.name, record.levelno, record.msg))
        if left_out is None:
            metrics.inc("turnstile_log_lines_suppressed_total")
            return False
        record.repeated = left_out
        return True
