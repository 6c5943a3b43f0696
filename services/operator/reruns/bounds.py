"""The bounds of a rerun in pace and money. Pure: time comes in as an argument."""

from __future__ import annotations

import math

# A shadow session may cost so many times what the recorded one did; beyond that the provider stops it.
ROOM = 3.0
LEAST = 0.05  # dollars: sessions of which nothing is known to have cost


class Pace:
    """At most `per_minute` turns a minute, evenly."""

    def __init__(self, per_minute: float) -> None:
        self._gap = 60.0 / per_minute
        self._next: float | None = None

    def allows(self, now: float) -> bool:
        """Whether a turn may go out at `now` (seconds of any clock that does not jump); counts it if so."""
        if self._next is not None and now < self._next:
            return False
        # Who looks a little late loses nothing by it, who looks long after gains nothing.
        self._next = (now if self._next is None else max(self._next, now - self._gap)) + self._gap
        return True


class RunBudget:
    """The money of a run, in dollars. What a session may cost is set aside when it is opened and given to the
    provider as the session's budget, so that all together cannot cost more than `limit`."""

    def __init__(self, limit: float) -> None:
        self.limit = limit
        self._reserved: dict[str, float] = {}
        self._paid: dict[str, float] = {}

    @property
    def spent(self) -> float:
        """Paid so far."""
        return sum(self._paid.values())

    @property
    def left(self) -> float:
        """Neither paid nor set aside."""
        reserved = sum(
            max(0.0, a - self._paid.get(name, 0.0)) for name, a in self._reserved.items()
        )
        return self.limit - self.spent - reserved

    def open(self, name: str, recorded: float) -> float | None:
        """Set money aside for a session whose record cost so much; returns how much, in whole cents, or None when
        what is left would not pay for it."""
        wish = max(LEAST, ROOM * recorded)
        most = self.left + self._paid.get(name, 0.0)
        given = math.floor(round(100 * min(wish, most), 6)) / 100
        if given < max(0.01, recorded):
            return None
        self._reserved[name] = given
        return given

    def pay(self, name: str, total: float) -> None:
        """Note what a session has cost altogether, in dollars."""
        self._paid[name] = total

    def lasts(self, name: str) -> bool:
        """Whether an open session may have another turn."""
        return self._paid.get(name, 0.0) < self._reserved.get(name, 0.0)

    def close(self, name: str) -> None:
        """The session ends: what it did not use is free again."""
        self._reserved.pop(name, None)
