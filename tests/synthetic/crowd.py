"""Who talks on which day: a few tenants and users do most of it, working days more than others."""

from __future__ import annotations

from bisect import bisect
from datetime import date, timedelta
from itertools import accumulate
from random import Random

_NAMES = (
    "acme", "birch", "cedar", "delta", "ember", "fjord", "grove", "heron", "iris", "juniper",
    "krill", "larch", "maple", "nimbus", "olive", "pine", "quartz", "rowan", "sorrel", "tern",
)  # fmt: skip
WEEKEND = 0.35  # of a working day
GROWTH = 0.6  # how much more happens on the last day than on the first


class Crowd:
    """Tenants by size, `acme` being the largest; users of a tenant likewise."""

    def __init__(self, tenants: int, users: int) -> None:
        self._names = [_NAMES[n] if n < len(_NAMES) else f"tenant-{n}" for n in range(tenants)]
        self._sizes = list(accumulate(1 / (place + 1) for place in range(tenants)))
        self._users = users

    def somebody(self, chance: Random) -> tuple[str, str]:
        """A tenant and one of its users."""
        tenant = chance.choices(self._names, cum_weights=self._sizes)[0]
        # Small numbers come far more often than large ones.
        return tenant, f"user-{int(self._users * chance.random() ** 2.5):05d}"


class Calendar:
    """The days up to `until`, in order, each with its share of the events."""

    def __init__(self, until: date, days: int) -> None:
        self._days = [until - timedelta(days=days - 1 - place) for place in range(days)]
        self._shares = list(
            accumulate(_share(day, place / days) for place, day in enumerate(self._days))
        )

    def day(self, done: float) -> date:
        """The day on which a share `done` (0..1) of all events has happened."""
        place = bisect(self._shares, done * self._shares[-1])
        return self._days[min(place, len(self._days) - 1)]


def _share(day: date, age: float) -> float:
    return (WEEKEND if day.weekday() >= 5 else 1.0) * (1 + GROWTH * age)
