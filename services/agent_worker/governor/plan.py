"""The share of each lane in what may be asked of the provider."""

from __future__ import annotations

from collections.abc import Mapping

from msgspec import Struct

URGENT, SEND, LIST, RECONNECT = "urgent", "send", "list", "reconnect"
BACKGROUND, CREATE = "background", "create"
# What is left to a lane however busy the others are. What a lane does not use, any other may, in this order: who is
# further along goes first, or after a restart all streams would open before the first session is whole.
REQUEST_SHARES = {URGENT: 0.15, SEND: 0.25, LIST: 0.25, RECONNECT: 0.25, BACKGROUND: 0.1}
CREATE_SHARES = {CREATE: 1.0}
WINDOW_SECONDS = 60.0
# Tokens that were taken ahead are void after this long.
AHEAD_SECONDS = 0.25


class Plan(Struct, frozen=True):
    """One limit. `rate`: tokens a second over all lanes; `shares` add up to 1; `own` and `common`: how many tokens
    a lane, and all of them together, may save up."""

    name: str
    rate: float
    shares: Mapping[str, float]
    own: Mapping[str, float]
    common: float


def plan(name: str, per_minute: int, shares: Mapping[str, float]) -> Plan:
    """A plan such that no 60 seconds, wherever they begin, see more than `per_minute` tokens used.

    What can be saved up may go at once and is taken off what flows in a minute; a lane can always save one token,
    or it could never use its share. `per_minute` is 10 at least.
    """
    own = {lane: max(1.0, share * per_minute * 0.04) for lane, share in shares.items()}
    common = per_minute * 0.04
    flowing = max(per_minute * 0.1, per_minute - common - sum(own.values()))
    return Plan(name, flowing / (WINDOW_SECONDS + AHEAD_SECONDS), shares, own, common)
