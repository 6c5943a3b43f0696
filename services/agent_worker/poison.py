"""The brake of intake: counts the gateway's unusable inputs, and nobody else's. Pure.

The gateway checks what it takes by the rules of this worker, so what it publishes and this worker can't use speaks
of a bad deploy: of a wrong TURNSTILE_TENANTS, or of code of another day. Of what other services publish nothing
follows for anybody else: it is put aside, however much it is.

An input is the gateway's when its `ce_source` says so and its `ce_id` has the form of the ids that the gateway
makes: headers copied from an example do not count. Who forges both may write to the topic and so may ask for
anything there; what that buys is a pause of intake, which ends by itself (see Intake).
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from shared.bus.brake import Brake, Braked
from shared.bus.envelope import GATEWAY, GATEWAY_ID, source_of

# Of the gateway's inputs, after a pause: enough to see whether the fault is still there.
RETRY_LEAST = 20
TO_DO = (
    "Intake tries again by itself; what it does not take in stays in the log. "
    "Look at the reasons above, at TURNSTILE_TENANTS and at what was deployed last; TURNSTILE_DEAD_RATIO=1 lets "
    "them go to turnstile.dead.v1, from where `turnstile dead redrive` brings them back"
)
Headers = Sequence[tuple[str, bytes]]


class Poison:
    """Up to `ratio` of the gateway's latest `window` inputs may be unusable, heeded from half of a window on; 1:
    all may."""

    def __init__(self, *, ratio: float, window: int) -> None:
        least = max(1, window // 2)
        self._brake = Brake(ratio=ratio, window=window, least=least, to_do=TO_DO)

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
