"""How long the provider takes before anybody sees something of an agent. All of it is nothing unless asked for.

What the provider says of these times, and what is assumed: docs/performance.md, "The first token".
"""

from __future__ import annotations

import argparse
from typing import Literal

import msgspec

from infra.simulator import stamps
from infra.simulator.errors import bad
from infra.simulator.play.usage import Tokens

MOST = 600.0  # seconds


class Delays(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Seconds. The sandbox is provisioned from the session's creation on, whoever waits for it."""

    create: float = 0.0  # until POST /v1/sessions is answered
    provision: float = 0.0  # until the sandbox is there
    provision_for: Literal["tools", "turn"] = (
        "tools"  # who waits for it: a tool, or all of the turn
    )
    first_token: float = 0.0  # of a model request, from its start
    uncached: float = (
        0.0  # more, for a thousand tokens of the prompt that are not read from the cache
    )
    cached: float = 0.0  # more, for a thousand that are

    def until_there(self, created_at: int, now: int, whom: Literal["tools", "turn"]) -> float:
        """What is left of the provisioning for who waits. Times are microseconds."""
        if whom != self.provision_for:
            return 0.0
        return max(0.0, self.provision - (now - created_at) / stamps.SECOND)

    def until_token(self, tokens: Tokens) -> float:
        """From the start of a model request to its first token."""
        fresh = tokens.fresh + tokens.cache_write
        return self.first_token + (fresh * self.uncached + tokens.cache_read * self.cached) / 1000


NONE = Delays()
_DELAYS = msgspec.json.Decoder(Delays)


def decode_delays(body: bytes) -> Delays:
    """Raises ApiError 400 that names what is wrong."""
    try:
        return _checked(_DELAYS.decode(body))
    except (msgspec.DecodeError, ValueError) as error:
        raise bad(f"delays: {error}") from None


def delays_of(text: str) -> Delays:
    """Those of `create=0.5,provision=4,provision_for=turn`. Raises ArgumentTypeError."""
    pairs = dict(part.partition("=")[::2] for part in text.split(","))
    try:
        return _checked(msgspec.convert(pairs, Delays, strict=False))
    except ValueError as error:
        raise argparse.ArgumentTypeError(str(error)) from None


def _checked(delays: Delays) -> Delays:
    for name, value in msgspec.structs.asdict(delays).items():
        if isinstance(value, float) and not 0 <= value <= MOST:
            raise ValueError(f"{name}: {value} is not between 0 and {MOST:.0f}")
    return delays
