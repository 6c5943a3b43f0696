"""List prices as dated rows, and what tokens and running time cost by them. Pure.

Amounts are whole numbers: prices are nano-dollars a token (dollars per million tokens, times 1,000), costs are
micro-dollars, rounded once a line.
"""

from __future__ import annotations

import re

from msgspec import Struct

from shared.session.events import Usage

NANO = 1_000  # to a micro-dollar
# $0.08 an hour is one micro-dollar in 45 milliseconds.
MS_PER_MICRO_USD = 45
# A model's name may be followed by the day of its release.
_RELEASE = re.compile(r"-\d{8}")
# What caching costs relative to input by the provider's rule, where a row does not say it: numerator, denominator.
_WRITE_5M, _WRITE_1H, _READ = (5, 4), (2, 1), (1, 10)


class Price(Struct, frozen=True, kw_only=True):
    """What one model's tokens cost from a day (`since`, "" for ever) on, in nano-dollars a token; with `up_to`,
    only of requests whose prompt, cached tokens included, has no more tokens. None: not known, so estimated."""

    model: str
    input: int
    output: int
    cache_write_5m: int | None = None
    cache_write_1h: int | None = None
    cache_read: int | None = None
    since: str = ""
    up_to: int | None = None

    @property
    def id(self) -> str:
        """The row's name, as ledger rows carry it."""
        band = "" if self.up_to is None else f"<={self.up_to}"
        return self.model + (f"@{self.since}" if self.since else "") + band

    def micro_usd(self, tokens: Usage) -> int:
        """What these tokens cost, cache writes as those of five minutes; below zero for less than nothing."""
        write = self._or(self.cache_write_5m, _WRITE_5M)
        nano = tokens.input_tokens * self.input + tokens.output_tokens * self.output
        nano += tokens.cache_write_tokens * write
        nano += tokens.cache_read_tokens * self._or(self.cache_read, _READ)
        return rounded(nano, NANO)

    def hour_micro_usd(self, tokens: int) -> int:
        """What so many tokens in the cache for an hour cost more than for five minutes."""
        more = self._or(self.cache_write_1h, _WRITE_1H) - self._or(self.cache_write_5m, _WRITE_5M)
        return rounded(tokens * more, NANO)

    def knows(self, tokens: Usage) -> bool:
        """Whether the row has a price of its own for each kind of these tokens."""
        write = self.cache_write_5m is not None or not tokens.cache_write_tokens
        return write and (self.cache_read is not None or not tokens.cache_read_tokens)

    def _or(self, known: int | None, share: tuple[int, int]) -> int:
        return rounded(self.input * share[0], share[1]) if known is None else known


class Prices(Struct, frozen=True):
    """Rows of any models, in any order."""

    rows: tuple[Price, ...] = ()

    def find(self, model: str, day: str, prompt_tokens: int) -> Price | None:
        """The row for a request to `model` on `day` (`YYYY-MM-DD`) with so long a prompt; None: no price is known.
        Of several days the latest counts, and of several bands the narrowest that holds the prompt."""
        of_model = [row for row in self.rows if names_model(row.model, model) and row.since <= day]
        latest = max((row.since for row in of_model), default="")
        fitting = [
            row
            for row in of_model
            if row.since == latest and (row.up_to is None or prompt_tokens <= row.up_to)
        ]
        return min(fitting, key=lambda row: (row.up_to is None, row.up_to or 0), default=None)


def names_model(known: str, model: str) -> bool:
    """Whether `model` is the `known` one, or a release of it that its day follows."""
    return model == known or (
        model.startswith(known) and _RELEASE.fullmatch(model, len(known)) is not None
    )


def running_micro_usd(milliseconds: int) -> int:
    """What so much running time costs."""
    return rounded(milliseconds, MS_PER_MICRO_USD)


def rounded(amount: int, unit: int) -> int:
    """`amount` in whole units, half a unit away from nothing."""
    whole = (2 * abs(amount) + unit) // (2 * unit)
    return whole if amount >= 0 else -whole
