"""The brake that tells bad data from a bad deploy: it stops a process when so much of what our own services wrote
is bad that the fault must be ours.

A few dead letters are for an operator to look at, and any number of a stranger's. A stream of our own means that
this process and the one that wrote it no longer understand each other: it stops, with offsets uncommitted, and
everything is still in the log. Pure; whose a record is, the caller knows.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from shared.bus.envelope import GATEWAY, GATEWAY_ID, source_of

# The share counts among about this many of the latest records ...
WINDOW = 1000
# ... and only when so many were seen: one bad record among the first three says nothing.
LEAST = 200
TO_DO = (
    "Nothing of this batch was committed; look at the reasons above, deploy a recorder that reads these events, or "
    "raise TURNSTILE_RECORDER_DEAD_CONSECUTIVE or TURNSTILE_RECORDER_DEAD_RATIO to let them go to turnstile.dead.v1"
)


class Braked(Exception):
    """Too many dead letters; the message says how many, and what to do."""


class Brake:
    """Counts good and bad records. `ratio` is the largest share of bad ones among the latest `window`, heeded once
    `least` were seen; `consecutive` the longest run of them, None for any. `to_do` ends the message."""

    def __init__(
        self,
        *,
        ratio: float,
        consecutive: int | None = None,
        window: int = WINDOW,
        least: int = LEAST,
        to_do: str = TO_DO,
    ) -> None:
        self._ratio = ratio
        self._consecutive = consecutive
        self._window = window
        self._least = least
        self._heeded_from = least
        self._to_do = to_do
        self._run = 0
        self._seen = 0.0
        self._bad = 0.0

    def good(self, count: int) -> None:
        """Count so many good records in a row."""
        if count > 0:
            self._run = 0
            self._look(count, 0)

    def bad(self) -> None:
        """Count a bad record. Raises Braked when that was one too many."""
        self._run += 1
        self._look(1, 1)
        if self._consecutive is not None and self._run >= self._consecutive:
            raise Braked(self._words(f"{self._run} records in a row can't be used"))
        if self._seen >= self._heeded_from and self._bad > self._ratio * self._seen:
            share = f"{self._bad:.0f} of the latest {self._seen:.0f} records can't be used"
            raise Braked(self._words(share))

    def retry(self, least: int) -> None:
        """Forget what was seen, and heed the share from `least` records on until as many as usual were seen."""
        self._run, self._seen, self._bad = 0, 0.0, 0.0
        self._heeded_from = min(least, self._least)

    def _look(self, seen: int, bad: int) -> None:
        if self._seen >= self._least:
            self._heeded_from = self._least
        self._seen += seen
        self._bad += bad
        if self._seen > self._window:
            self._bad *= self._window / self._seen
            self._seen = self._window

    def _words(self, what: str) -> str:
        return f"{what}: that looks like a bad deploy, not like bad data. {self._to_do}"


# Of the gateway's inputs, after a pause: enough to see whether the fault is still there.
RETRY_LEAST = 20
INTAKE_TO_DO = (
    "Intake tries again by itself; what it does not take in stays in the log. "
    "Look at the reasons above, at TURNSTILE_TENANTS and at what was deployed last; TURNSTILE_DEAD_RATIO=1 lets "
    "them go to turnstile.dead.v1, from where `turnstile dead redrive` brings them back"
)
Headers = Sequence[tuple[str, bytes]]


class IntakeBrake:
    """Up to `ratio` of the gateway's latest `window` inputs may be unusable, heeded from half of a window on; with
    a `ratio` of 1 all may."""

    def __init__(self, *, ratio: float, window: int) -> None:
        least = max(1, window // 2)
        self._brake = Brake(ratio=ratio, window=window, least=least, to_do=INTAKE_TO_DO)

    def look(self, batch: Iterable[tuple[Headers, bool]]) -> str:
        """Count a batch's inputs, each by its headers and whether it was usable; why too many were not, "" while
        they are not."""
        counted = [usable for headers, usable in batch if is_gateways(headers)]
        try:
            self._brake.good(sum(counted))
            for _ in range(counted.count(False)):
                self._brake.bad()
        except Braked as error:
            return str(error)
        return ""

    def retry(self) -> None:
        """Count anew, and heed the share sooner until half a window was seen again."""
        self._brake.retry(RETRY_LEAST)


def is_gateways(headers: Headers) -> bool:
    """Whether a record was published by our own gateway, as far as its headers tell."""
    if source_of(headers) != GATEWAY:
        return False
    found = (value for name, value in headers if name.lower() == "ce_id" and value)
    return GATEWAY_ID.fullmatch(next(found, b"").decode("utf-8", "replace")) is not None
