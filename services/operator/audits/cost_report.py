"""The provider's reports of costs and tokens as they are added up here. Pure."""

from __future__ import annotations

from dataclasses import dataclass, field
from decimal import Decimal

MICRO_PER_CENT = 10_000


@dataclass(slots=True)
class CostReport:
    """Millionths of a dollar by provider session ("": outside of any): at list price, and after discounts.
    `refreshed_at`: until when the provider has counted (RFC 3339), "" where it does not say."""

    listed: dict[str, Decimal] = field(default_factory=dict)
    billed: Decimal = Decimal()
    refreshed_at: str = ""

    def add(self, session: str, list_cents: str, cents: str) -> None:
        """Add a row; amounts are cents with fractions."""
        amount = Decimal(list_cents) * MICRO_PER_CENT
        self.listed[session] = self.listed.get(session, Decimal()) + amount
        self.billed += Decimal(cents) * MICRO_PER_CENT

    def join(self, other: CostReport) -> None:
        """Add the report of the time after."""
        for session, amount in other.listed.items():
            self.listed[session] = self.listed.get(session, Decimal()) + amount
        self.billed += other.billed
        self.refreshed_at = other.refreshed_at or self.refreshed_at


# Kinds of tokens, named as columns of the ledger.
KINDS = ("input_tokens", "output_tokens", "cache_read_tokens", "cache_write_tokens")


@dataclass(slots=True)
class UsageReport:
    """Tokens by provider session, in the order of KINDS."""

    tokens: dict[str, tuple[int, ...]] = field(default_factory=dict)

    def add(self, session: str, tokens: tuple[int, ...]) -> None:
        """Add a row."""
        there = self.tokens.get(session, (0,) * len(KINDS))
        self.tokens[session] = tuple(a + b for a, b in zip(there, tokens, strict=True))

    def join(self, other: UsageReport) -> None:
        """Add the report of the time after."""
        for session, tokens in other.tokens.items():
            self.add(session, tokens)
