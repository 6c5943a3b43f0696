"""What a session cost and used by hour, as the provider's reports tell it. Kept when the session is deleted."""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

from infra.simulator.play.usage import Tokens
from infra.simulator.stamps import SECOND

HOUR = 3_600 * SECOND


class Charged(NamedTuple):
    """When (the hour's first microsecond), what for, and by which model ("": none)."""

    hour: int
    cost_type: str
    model: str


class Bill:
    """Amounts are in parts of a cent (`usage.CENT`)."""

    def __init__(self) -> None:
        self._parts: dict[Charged, int] = {}
        self._used: dict[int, list[Tokens]] = {}

    def add(self, at: int, cost_type: str, model: str, parts: int) -> None:
        """Charge what was spent at `at`, in microseconds."""
        key = Charged(at - at % HOUR, cost_type, model)
        self._parts[key] = self._parts.get(key, 0) + parts

    def use(self, at: int, tokens: Tokens) -> None:
        """Count the tokens of one model request."""
        self._used.setdefault(at - at % HOUR, []).append(tokens)

    def used(self, start: int, end: int) -> list[Tokens]:
        """Those of each request in these hours."""
        return [one for hour, all in self._used.items() if start <= hour < end for one in all]

    def between(self, start: int, end: int) -> Iterator[tuple[Charged, int]]:
        """What was charged in the hours from `start` on and before `end`."""
        for charged, parts in self._parts.items():
            if start <= charged.hour < end and parts:
                yield charged, parts
