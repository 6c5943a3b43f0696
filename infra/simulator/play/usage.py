"""The usage of a session or a thread, and what it costs at list price.

A session's `list_cost` holds its running time, a thread's does not; both are exact inside, shown in nearest cents.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

MICROCENTS = 1_000_000  # to a cent: tokens times dollars per million tokens times 100
CENTS_AN_HOUR = 8  # of running time
# Parts of a cent, as many as an hour has microseconds: tokens and running time both cost a whole number of them.
CENT = MICROCENTS * 3600

# Dollars per million tokens, input and output, by the family in the model's id.
PRICES = {"fable": (10, 50), "opus": (5, 25), "sonnet": (2, 10), "haiku": (1, 5)}
UNPRICED = "experimental"  # a model id with this word has no list price


def price_of(model: str) -> tuple[int, int] | None:
    """Dollars per million (input, output) tokens, None where no list price exists."""
    if UNPRICED in model:
        return None
    return next((price for family, price in PRICES.items() if family in model), (5, 25))


@dataclass(frozen=True, slots=True)
class Tokens:
    """The tokens of one model request; `extra_cents` makes a request dear for budget scripts."""

    fresh: int = 0
    output: int = 0
    cache_read: int = 0
    cache_write: int = 0
    extra_cents: int = 0

    def span(self) -> dict[str, int]:
        """As `span.model_request_end` reports them."""
        return {
            "input_tokens": self.fresh,
            "output_tokens": self.output,
            "cache_creation_input_tokens": self.cache_write,
            "cache_read_input_tokens": self.cache_read,
        }


NO_TOKENS = Tokens()


class Usage:
    """Running totals."""

    def __init__(self, model: str) -> None:
        self._price = price_of(model) or (0, 0)
        self.fresh = self.output = self.cache_read = self.cache_write = 0
        self.microcents = 0
        self.active = 0  # microseconds spent running

    def add(self, tokens: Tokens) -> None:
        """Add one model request's tokens and their price."""
        into, out = self._price
        self.fresh += tokens.fresh
        self.output += tokens.output
        self.cache_read += tokens.cache_read
        self.cache_write += tokens.cache_write
        # a cache write costs a quarter more than fresh input, a read a tenth of it
        billed = tokens.fresh * 100 + tokens.cache_write * 125 + tokens.cache_read * 10
        self.microcents += billed * into + tokens.output * out * 100
        self.microcents += tokens.extra_cents * MICROCENTS

    def spent(self, running: int = 0) -> int:
        """What tokens and running time cost, in parts of a cent (`CENT` of them). `running`: microseconds that are
        not in `active` yet."""
        return self.microcents * 3600 + (self.active + running) * CENTS_AN_HOUR

    def of_session(self, running: int = 0) -> dict[str, Any]:
        """A session's snapshot. `running` microseconds are added to its running time (it may go back later)."""
        return self._shown(self.active + running, self.spent(running))

    def of_thread(self) -> dict[str, Any]:
        """A thread's snapshot: its cost leaves the running time out."""
        return self._shown(self.active, self.microcents * 3600)

    def _shown(self, active: int, spent: int) -> dict[str, Any]:
        return {
            "input_tokens": self.fresh,
            "output_tokens": self.output,
            "cache_read_input_tokens": self.cache_read,
            "cache_creation": {
                "ephemeral_5m_input_tokens": self.cache_write,
                "ephemeral_1h_input_tokens": 0,
            },
            "list_cost": {"amount": str(nearest_cent(spent)), "currency": "USD"},
            "active_seconds": round(active / 1e6, 3),
            "server_tool_use": {"web_search_requests": 0, "web_fetch_requests": 0},
        }


def nearest_cent(spent: int) -> int:
    """Whole cents of so many parts of a cent; half a cent is rounded up."""
    return (2 * spent + CENT) // (2 * CENT)
