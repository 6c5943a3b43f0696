"""Leaves out lines that a library logs again and again while something is away.

A Kafka client without its broker logs the same failure many times a second for as long as it lasts. The first line
passes; then one per window passes, with the number left out since.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable

from shared import metrics

WINDOW_S = 10.0
# More different messages than this and the oldest is forgotten.
MAX_KEYS = 512
_LIBRARIES = ("aiokafka", "urllib3", "clickhouse_connect", "opentelemetry", "asyncio", "sqlalchemy")


class FloodFilter(logging.Filter):
    """Lets one of each library message through per window; sets `repeated` on it. Our own lines all pass.

    Messages are the same when logger, level and the unformatted text are. `clock` gives seconds, never backwards.
    """

    def __init__(
        self, window: float = WINDOW_S, clock: Callable[[], float] = time.monotonic
    ) -> None:
        super().__init__()
        self._window = window
        self._clock = clock
        self._seen: dict[tuple[str, int, str], tuple[float, int]] = {}

    def filter(self, record: logging.LogRecord) -> bool:
        """Whether this line is printed."""
        if not record.name.startswith(_LIBRARIES) or not isinstance(record.msg, str):
            return True
        key = (record.name, record.levelno, record.msg)
        now = self._clock()
        since, left_out = self._seen.pop(key, (now - self._window, 0))
        if now - since < self._window:
            self._seen[key] = (since, left_out + 1)
            metrics.inc("turnstile_log_lines_suppressed_total")
            return False
        self._seen[key] = (now, 0)
        if len(self._seen) > MAX_KEYS:
            del self._seen[next(iter(self._seen))]
        record.repeated = left_out
        return True
