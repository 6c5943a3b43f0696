"""What a session has cost: lines of a ledger, each made of one thing the provider said. Pure.

A line is recorded in `session.charged` and never changed. A model request has one by its tokens, a stretch of
running time one by its length. `session.usage` is the provider's own account since the provider session began: what
it counts beyond the requests, and what its `list_cost` says beyond the lines, become lines too. An account that
goes back takes nothing away.
"""

from __future__ import annotations

from collections.abc import Iterable

from msgspec import Struct
from msgspec.structs import replace

from shared.session.events import Charge, Usage
from shared.session.prices import Price, Prices, running_micro_usd
from shared.session.provider import Account

UNKNOWN = "unknown"
CENT = 10_000  # micro-dollars
# `list_cost` is in nearest cents. Beyond half a cent, lines and account may differ by what rounding makes of so
# many lines and milliseconds.
UNSURE = CENT // 2 + 500
# No request has more tokens. Columns of the ledger hold any cost of so many.
MOST_TOKENS = 10**12
# Requests that wait for the next account before they get their lines all the same.
MOST_WAITING = 16


class Spent(Struct, frozen=True, kw_only=True, omit_defaults=True):
    """A model request that has no line yet: `source` is the event that ended it, `day` when (`YYYY-MM-DD`). `model`
    is the session's where it is a child thread's and not told."""

    source: str
    day: str
    model: str
    model_told: bool = False
    usage: Usage
    turn_id: str | None = None
    thread_id: str | None = None


class Ledger(Struct, frozen=True, kw_only=True, omit_defaults=True):
    """The sums of a session's lines. `micro_usd` is all, `of_provider` what the present provider session cost;
    everything below is that one's: `tokens` those of its requests, `unseen` those it counts beyond them,
    `cache_hour` those written for an hour, `active_ms` its running time (None: not known, since it began before
    there was a ledger), `accounted` the tokens of its last account (None: there was none that says).
    `brought_forward`: micro-dollars from before that have no line yet."""

    micro_usd: int = 0
    of_provider: int = 0
    tokens: Usage = Usage()
    unseen: Usage = Usage()
    cache_hour: int = 0
    active_ms: int | None = 0
    accounted: Usage | None = None
    brought_forward: int = 0

    def after(self, lines: Iterable[Charge]) -> Ledger:
        """The sums with these lines."""
        ledger = self
        for line in lines:
            ledger = _counted(ledger, line)
        return ledger

    def rotated(self) -> Ledger:
        """The sums at the beginning of another provider session."""
        return Ledger(micro_usd=self.micro_usd, brought_forward=self.brought_forward)


def _counted(ledger: Ledger, line: Charge) -> Ledger:
    if line.kind == "brought_forward":  # its money is in the sums already
        return replace(ledger, brought_forward=0)
    ledger = replace(
        ledger,
        micro_usd=ledger.micro_usd + line.micro_usd,
        of_provider=ledger.of_provider + line.micro_usd,
    )
    if line.kind == "request":
        return replace(ledger, tokens=ledger.tokens + line.tokens)
    if line.kind == "unseen":
        return replace(ledger, unseen=ledger.unseen + line.tokens)
    if line.kind == "cache_hour":
        return replace(ledger, cache_hour=ledger.cache_hour + line.cache_hour_tokens)
    if line.kind == "running":
        return replace(ledger, active_ms=(ledger.active_ms or 0) + line.active_ms)
    return ledger


def request_lines(
    ledger: Ledger, spent: Spent, of_session: str, prices: Prices
) -> tuple[Charge, ...]:
    """The lines of a model request: its own, and what is taken back because an account had counted it before, at
    the price of `of_session`, the session's model, as it was charged then."""
    price = prices.find(spent.model, spent.day, _prompt(spent.usage))
    # A request does not say how long its cache writes last.
    sure = price is not None and price.knows(spent.usage) and not spent.usage.cache_write_tokens
    own = Charge(
        kind="request",
        source=spent.source,
        thread_id=spent.thread_id,
        model=spent.model,
        price=price.id if price else UNKNOWN,
        tokens=spent.usage,
        micro_usd=price.micro_usd(spent.usage) if price else 0,
        estimate=not (sure and (spent.model_told or spent.thread_id is None)),
    )
    before = ledger.unseen
    left = _beyond(before, spent.usage)
    back = _unseen(left - before, spent.source, of_session, spent.day, prices)
    return (own, *back)


def account_lines(
    ledger: Ledger, account: Account, source: str, model: str, day: str, prices: Prices
) -> tuple[Charge, ...]:
    """The lines that the account in the event `source` gives rise to, once all requests have theirs. `account` is
    the highest that was seen of the cents."""
    lines = [
        *_hour(ledger, account, source, model, day, prices),
        *_beyond_requests(ledger, account, source, model, day, prices),
        *_running(ledger, account, source),
    ]
    return (*lines, *_correction(ledger.after(lines), account, source))


def late_lines(ledger: Ledger, cents: int, source: str) -> tuple[Charge, ...]:
    """The line by which requests that came after the account that counts them (`cents`: its figure) agree with it
    again: what was made of their tokens then may have been at another model's price."""
    if ledger.accounted is None:
        return ()
    return _correction(ledger, Account(cents=cents, tokens=ledger.accounted), source)


def _hour(
    ledger: Ledger, account: Account, source: str, model: str, day: str, prices: Prices
) -> tuple[Charge, ...]:
    more = account.cache_hour - ledger.cache_hour
    price = prices.find(model, day, 0)
    if more <= 0 or price is None:
        return ()
    line = Charge(
        kind="cache_hour",
        source=source,
        model=model,
        price=price.id,
        cache_hour_tokens=more,
        micro_usd=price.hour_micro_usd(more),
        estimate=price.cache_write_1h is None,
    )
    return (line,)


def _beyond_requests(
    ledger: Ledger, account: Account, source: str, model: str, day: str, prices: Prices
) -> tuple[Charge, ...]:
    if account.tokens is None:
        return ()
    more = _beyond(account.tokens, ledger.tokens + ledger.unseen)
    return _unseen(more, source, model, day, prices)


def _running(ledger: Ledger, account: Account, source: str) -> tuple[Charge, ...]:
    if account.active_ms is None:
        return ()
    if ledger.active_ms is None:  # from now on it is known
        return (Charge(kind="running", source=source, active_ms=account.active_ms, micro_usd=0),)
    more = account.active_ms - ledger.active_ms
    if more <= 0:
        return ()
    micro_usd = running_micro_usd(account.active_ms) - running_micro_usd(ledger.active_ms)
    return (Charge(kind="running", source=source, active_ms=more, micro_usd=micro_usd),)


def _correction(ledger: Ledger, account: Account, source: str) -> tuple[Charge, ...]:
    """What the provider's figure has more or less than the lines. Not while there are lines of requests that the
    account does not count yet."""
    if account.cents is None:
        return ()
    if account.tokens is not None and account.tokens != ledger.tokens + ledger.unseen:
        return ()
    differs = account.cents * CENT - ledger.of_provider
    if abs(differs) <= UNSURE:
        return ()
    return (Charge(kind="provider", source=source, micro_usd=differs, estimate=True),)


def _unseen(tokens: Usage, source: str, model: str, day: str, prices: Prices) -> tuple[Charge, ...]:
    """Tokens that no request told of (or, below zero, that one has told of since), priced as a short prompt's."""
    if tokens == Usage():
        return ()
    price: Price | None = prices.find(model, day, 0)
    line = Charge(
        kind="unseen",
        source=source,
        model=model,
        price=price.id if price else UNKNOWN,
        tokens=tokens,
        micro_usd=price.micro_usd(tokens) if price else 0,
        estimate=True,
    )
    return (line,)


def _beyond(counted: Usage, known: Usage) -> Usage:
    """What `counted` has more than `known`, kind by kind."""
    more = counted - known
    return Usage(**{name: max(0, getattr(more, name)) for name in Usage.__struct_fields__})


def _prompt(usage: Usage) -> int:
    return usage.input_tokens + usage.cache_read_tokens + usage.cache_write_tokens


def within_bounds(usage: Usage) -> Usage:
    """The tokens, each number at least 0 and at most MOST_TOKENS: the provider's word may be anything."""
    return Usage(
        **{name: min(MOST_TOKENS, max(0, getattr(usage, name))) for name in Usage.__struct_fields__}
    )
