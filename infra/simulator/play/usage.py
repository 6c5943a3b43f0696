"""The usage of a session or a thread, and what it costs at list price.

A session's `list_cost` holds its running time, a thread's does not; both are exact inside, shown in nearest cents.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

# A cent in the parts that tokens and running time both cost a whole number of: 45 to a nano-dollar, and one for
# each microsecond of running, so that an hour costs 8 cents.
CENT = 450_000_000
NANODOLLAR = 45


@dataclass(frozen=True, slots=True)
class Rates:
    """Nano-dollars a token (dollars per million, times 1,000). Written down here a second time on purpose: a bill
    by the prices that Turnstile reckons with would be wrong wherever they are."""

    fresh: int
    output: int
    write_5m: int
    write_1h: int
    read: int


def _usual(fresh: int, output: int) -> Rates:
    """By the provider's rule for its cache: 1.25 and 2 times the input for a write, a tenth for a read."""
    return Rates(fresh, output, fresh * 5 // 4, fresh * 2, fresh // 10)


LONG_PROMPT = 100_000  # tokens, those of the cache included
RATES = {
    "claude-fable-5-2": _usual(8_000, 40_000),
    "claude-fable-5-1": Rates(10_000, 50_000, 12_500, 20_000, 250),
    "claude-opus-5-5": Rates(4_000, 20_000, 5_000, 8_000, 200),
    "claude-sonnet-5-5": Rates(2_000, 10_000, 2_500, 4_000, 100),
    "claude-haiku-5-5": Rates(100, 500, 125, 200, 10),
    "claude-sonnet-4": _usual(3_000, 15_000),
    "fable": _usual(10_000, 50_000),
    "opus": _usual(5_000, 25_000),
    "sonnet": _usual(2_000, 10_000),
    "haiku": _usual(1_000, 5_000),
}
OTHERS = _usual(5_000, 25_000)
# What requests with a long prompt cost in place of the above.
LONG_RATES = {"claude-haiku-5-5": Rates(500, 2_500, 625, 1_000, 50)}
UNPRICED = "experimental"  # a model id with this word has no list price


def rates_of(model: str, prompt: int = 0) -> Rates | None:
    """What a request with a prompt of so many tokens pays, None where no list price exists."""
    if UNPRICED in model:
        return None
    tables = (LONG_RATES, RATES) if prompt > LONG_PROMPT else (RATES,)
    found = (rates for table in tables for name, rates in table.items() if name in model)
    return next(found, OTHERS)


@dataclass(frozen=True, slots=True)
class Tokens:
    """The tokens of one model request; `cache_hour` of those written stay in the cache for an hour, which only the
    session's usage tells. `extra_cents` makes a request dear for budget scripts."""

    fresh: int = 0
    output: int = 0
    cache_read: int = 0
    cache_write: int = 0
    cache_hour: int = 0
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

    def __init__(self) -> None:
        self.fresh = self.output = self.cache_read = self.cache_write = self.cache_hour = 0
        self.nanodollars = 0  # of tokens
        self.active = 0  # microseconds spent running

    def add(self, model: str, tokens: Tokens) -> None:
        """Add one model request's tokens and their price."""
        self.fresh += tokens.fresh
        self.output += tokens.output
        self.cache_read += tokens.cache_read
        self.cache_write += tokens.cache_write
        self.cache_hour += tokens.cache_hour
        self.nanodollars += _price(model, tokens) + tokens.extra_cents * CENT // NANODOLLAR

    def spent(self, running: int = 0) -> int:
        """What tokens and running time cost, in parts of a cent (`CENT` of them). `running`: microseconds that are
        not in `active` yet."""
        return self.nanodollars * NANODOLLAR + self.active + running

    def of_session(self, running: int = 0) -> dict[str, Any]:
        """A session's snapshot. `running` microseconds are added to its running time (it may go back later)."""
        return self._shown(self.active + running, self.spent(running))

    def of_thread(self) -> dict[str, Any]:
        """A thread's snapshot: its cost leaves the running time out."""
        return self._shown(self.active, self.nanodollars * NANODOLLAR)

    def _shown(self, active: int, spent: int) -> dict[str, Any]:
        return {
            "input_tokens": self.fresh,
            "output_tokens": self.output,
            "cache_read_input_tokens": self.cache_read,
            "cache_creation": {
                "ephemeral_5m_input_tokens": self.cache_write - self.cache_hour,
                "ephemeral_1h_input_tokens": self.cache_hour,
            },
            "list_cost": {"amount": str(nearest_cent(spent)), "currency": "USD"},
            "active_seconds": round(active / 1e6, 3),
            "server_tool_use": {"web_search_requests": 0, "web_fetch_requests": 0},
        }


def nearest_cent(spent: int) -> int:
    """Whole cents of so many parts of a cent; half a cent is rounded up."""
    return (2 * spent + CENT) // (2 * CENT)


def _price(model: str, tokens: Tokens) -> int:
    rates = rates_of(model, tokens.fresh + tokens.cache_read + tokens.cache_write)
    if rates is None:
        return 0
    short = tokens.cache_write - tokens.cache_hour
    written = short * rates.write_5m + tokens.cache_hour * rates.write_1h
    read = tokens.cache_read * rates.read
    return tokens.fresh * rates.fresh + tokens.output * rates.output + written + read
