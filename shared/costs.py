"""What was paid for, by what: the question to the ledger in ClickHouse, and its answer, for gateway and operator.

What sessions had cost before there was a ledger is in none of it (lines `brought_forward`)."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from datetime import date
from typing import Any

import msgspec
from msgspec import UNSET, Struct, UnsetType

# What costs can be told apart by, as columns of `cost_facts`.
BY = {
    "tenant": "tenant_id",
    "user": "user_id",
    "agent": "agent",
    "model": "model",
    "day": "toString(toDate(at))",
}
# Where a row says it.
FIELDS = {
    "tenant": "tenant_id",
    "user": "user_id",
    "agent": "agent",
    "model": "model",
    "day": "day",
}
MOST_ROWS = 10_000
SUMS = (
    "sum(micro_usd)",
    "sumIf(micro_usd, estimate)",
    "sum(input_tokens)",
    "sum(output_tokens)",
    "sum(cache_read_tokens)",
    "sum(cache_write_tokens)",
    "sumIf(active_seconds, micro_usd != 0)",
    "countIf(kind = 'request' AND price = 'unknown')",
)


class CostRow(Struct, frozen=True, kw_only=True):
    """What was paid for under one tenant, user, agent, model or day; a name is there when costs were asked for by
    it, and empty for lines that have none (running time has no model). `estimated_usd` is the part of `cost_usd`
    that is estimated, `unpriced_requests` those to models without a price."""

    tenant_id: str | UnsetType = UNSET
    user_id: str | UnsetType = UNSET
    agent: str | UnsetType = UNSET
    model: str | UnsetType = UNSET
    day: str | UnsetType = UNSET
    cost_usd: float
    estimated_usd: float
    input_tokens: int
    output_tokens: int
    cache_read_tokens: int
    cache_write_tokens: int
    active_seconds: float
    unpriced_requests: int


class Wanted(Struct, frozen=True, kw_only=True):
    """Which costs: of one tenant ("": of all), from the day `since` on and before `until` (None: no bound)."""

    by: tuple[str, ...]
    tenant: str = ""
    since: date | None = None
    until: date | None = None


def dimensions(text: str) -> tuple[str, ...]:
    """The names in a comma-separated list, each once. Raises ValueError naming one that is none."""
    names = tuple(dict.fromkeys(name.strip() for name in text.split(",")))
    for name in names:
        if name not in BY:
            raise ValueError(f"costs are told by {', '.join(BY)}, not by {name!r}")
    return names


def question(wanted: Wanted) -> tuple[str, dict[str, Any]]:
    """Statement and parameters; the dearest MOST_ROWS rows, days in their order."""
    names = [BY[name] for name in wanted.by]
    conditions = ["kind != 'brought_forward'"]
    parameters: dict[str, Any] = {}
    if wanted.tenant:
        conditions.append("tenant_id = {tenant:String}")
        parameters["tenant"] = wanted.tenant
    for name, sign, day in (("since", ">=", wanted.since), ("until", "<", wanted.until)):
        if day is not None:
            conditions.append(f"toDate(at) {sign} {{{name}:Date}}")
            parameters[name] = day
    order = [BY["day"]] if "day" in wanted.by else []
    statement = (
        f"SELECT {', '.join([*names, *SUMS])} FROM cost_facts WHERE {' AND '.join(conditions)}"
        f" GROUP BY {', '.join(names)}"
        f" ORDER BY {', '.join([*order, 'sum(micro_usd) DESC', *names])} LIMIT {MOST_ROWS}"
    )
    return statement, parameters


def rows(wanted: Wanted, answer: Iterable[Sequence[Any]]) -> list[CostRow]:
    """The rows of the answer to `question(wanted)`."""
    return [_row(wanted, found) for found in answer]


def _row(wanted: Wanted, found: Sequence[Any]) -> CostRow:
    told = {FIELDS[by]: str(value) for by, value in zip(wanted.by, found, strict=False)}
    micro, estimated, into, out, read, written, seconds, unpriced = found[len(wanted.by) :]
    row = CostRow(
        cost_usd=int(micro) / 1e6,
        estimated_usd=int(estimated) / 1e6,
        input_tokens=int(into),
        output_tokens=int(out),
        cache_read_tokens=int(read),
        cache_write_tokens=int(written),
        active_seconds=round(float(seconds), 3),
        unpriced_requests=int(unpriced),
    )
    return msgspec.structs.replace(row, **told)
