"""A session's usage, and its cost at list price."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

MICROCENTS = 1_000_000  # to a cent: tokens times dollars per million tokens times 100

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
    """Running totals. Cost is kept exactly and shown in whole cents, as the provider does."""

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

    @property
    def cents(self) -> int:
        """The cost to the nearest cent."""
        return (self.microcents + MICROCENTS // 2) // MICROCENTS

    def as_json(self, ahead: int = 0) -> dict[str, Any]:
        """The snapshot; `ahead` microseconds are added to the running time (it may go back later)."""
        return {
            "input_tokens": self.fresh,
            "output_tokens": self.output,
            "cache_read_input_tokens": self.cache_read,
            "cache_creation": {
                "ephemeral_5m_input_tokens": self.cache_write,
                "ephemeral_1h_input_tokens": 0,
            },
            "list_cost": {"amount": str(self.cents), "currency": "USD"},
            "active_seconds": round((self.active + ahead) / 1e6, 3),
            "server_tool_use": {"web_search_requests": 0, "web_fetch_requests": 0},
        }
