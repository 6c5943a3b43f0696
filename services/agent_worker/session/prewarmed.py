"""How many provider sessions one process keeps that were made before any turn."""

from __future__ import annotations

from collections.abc import Callable

from shared import metrics
from shared.session.key import SessionKey


class Prewarmed:
    """At most `most` at a time, each for `seconds` by the `monotonic` clock, or until its session's first turn or
    end is seen here: another worker may drive that."""

    def __init__(self, most: int, seconds: float, monotonic: Callable[[], float]) -> None:
        self._most = most
        self._seconds = seconds
        self._monotonic = monotonic
        self._until: dict[SessionKey, float] = {}

    def take(self, key: SessionKey, *, made: bool) -> bool:
        """Count one of the session `key`; False when there is no room. One that may be `made` already, by a process
        that died, is counted all the same."""
        now = self._monotonic()
        for past in [one for one, until in self._until.items() if until <= now]:
            del self._until[past]
        taken = made or len(self._until) < self._most
        if taken:
            self._until[key] = now + self._seconds
        self._tell()
        return taken

    def give_back(self, key: SessionKey) -> None:
        """Count the session's no more."""
        if self._until.pop(key, None) is not None:
            self._tell()

    def _tell(self) -> None:
        metrics.set_gauge("turnstile_prewarmed_sessions", len(self._until))
