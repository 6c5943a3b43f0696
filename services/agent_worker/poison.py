"""The brake of intake: counts unusable inputs by who published them. Pure.

The gateway checks what it takes by the rules of this worker, so what it publishes and this worker can't use speaks
of a bad deploy: of a wrong TURNSTILE_TENANTS, or of code of another day. Another service may be broken all by
itself, and that must stop nobody else: the first one that publishes poison is not counted, a second one is.
"""

from __future__ import annotations

from collections.abc import Sequence

from shared.bus.brake import Brake

GATEWAY = "turnstile/gateway"
TO_DO = (
    "No input is taken in until this worker is started again; those after the last commit are still in the log. "
    "Look at the reasons above, at TURNSTILE_TENANTS and at what was deployed last; TURNSTILE_DEAD_RATIO=1 lets "
    "them go to turnstile.dead.v1, from where `turnstile dead redrive` brings them back"
)


class Poison:
    """Up to `ratio` of the latest `window` inputs may be unusable, heeded from half of a window on; 1: all may."""

    def __init__(self, *, ratio: float, window: int) -> None:
        least = max(1, window // 2)
        self._brake = Brake(ratio=ratio, window=window, least=least, to_do=TO_DO)
        self._first: str | None = None

    def good(self, count: int) -> None:
        """So many inputs were fine."""
        self._brake.good(count)

    def bad(self, headers: Sequence[tuple[str, bytes]]) -> None:
        """An input with these headers was not. Raises Braked when that was one too many."""
        source = _source(headers)
        if source != GATEWAY:
            if self._first is None:
                self._first = source
            if source == self._first:
                return
        self._brake.bad()


def _source(headers: Sequence[tuple[str, bytes]]) -> str:
    """Who says to have published it; "" when nobody does."""
    found = (value for name, value in headers if name.lower() == "ce_source" and value)
    return next(found, b"").decode("utf-8", "replace")
