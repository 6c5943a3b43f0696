"""The pieces of an export: which rows go into which file. Pure.

An export is cut at days or months of the table's own time (UTC), so that each piece is small, can be made again on
its own, and says by its name what is in it.
"""

from __future__ import annotations

import enum
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta


class Cut(enum.StrEnum):
    """What one file holds."""

    day = "day"
    month = "month"
    none = "none"


@dataclass(frozen=True, slots=True)
class Shape:
    """How a table is cut and filtered: its time (SQL), its order, whether it knows tenants and sessions."""

    time: str
    order: str
    tenant: bool = True
    session: bool = True


_EVENT = "tenant_id, session_id"
SHAPES: dict[str, Shape] = {
    "events": Shape("at", f"{_EVENT}, seq"),
    "turn_facts": Shape("submitted_at", f"{_EVENT}, turn_id"),
    "tool_call_facts": Shape("called_at", f"{_EVENT}, tool_use_id"),
    "model_request_facts": Shape("coalesce(started_at, ended_at)", f"{_EVENT}, request_id"),
    "session_facts": Shape("opened_at", _EVENT),
    "tenant_days": Shape("day", "tenant_id, day", session=False),
    "otel_traces": Shape("Timestamp", "Timestamp, SpanId", tenant=False, session=False),
}


@dataclass(frozen=True, slots=True)
class Wanted:
    """What to export. `since` is inside, `until` is not; both None: everything."""

    table: str = "events"
    tenant: str = ""
    session: str = ""
    since: date | None = None
    until: date | None = None
    cut: Cut = Cut.month

    def as_json(self) -> dict[str, str]:
        """By it a later run sees whether it is asked for the same."""
        return {
            "table": self.table,
            "tenant": self.tenant,
            "session": self.session,
            "since": str(self.since or ""),
            "until": str(self.until or ""),
            "cut": str(self.cut),
        }


@dataclass(frozen=True, slots=True)
class Piece:
    """One file: its name, its first and last day (None: no bounds), how many rows it had when it was counted."""

    name: str
    first: date | None
    last: date | None
    rows: int

    def closed(self, at: datetime) -> bool:
        """Whether its time was over by then, with an hour for what comes late."""
        if self.last is None:
            return False
        end = datetime(self.last.year, self.last.month, self.last.day, tzinfo=UTC)
        return at >= end + timedelta(days=1, hours=1)


Statement = tuple[str, dict[str, str]]  # with its parameters


def counting(wanted: Wanted) -> Statement:
    """Rows (first day, last day, how many), one a piece, oldest first."""
    time = SHAPES[wanted.table].time
    start = {
        Cut.day: f"toDate({time})",
        Cut.month: f"toStartOfMonth({time})",
        Cut.none: "toDate('1970-01-01')",
    }[wanted.cut]
    where, parameters = _filter(wanted, wanted.since, wanted.until)
    counted = f"SELECT assumeNotNull({start}) AS piece, count() FROM {wanted.table} WHERE {where}"
    return f"{counted} GROUP BY piece ORDER BY piece", parameters


def piece(wanted: Wanted, start: date, rows: int) -> Piece:
    """The piece that begins on a day that `counting` found."""
    if wanted.cut is Cut.none:
        return Piece(f"{wanted.table}.parquet", None, None, rows)
    if wanted.cut is Cut.day:
        return Piece(f"{wanted.table}-{start}.parquet", start, start, rows)
    following = (start.replace(day=1) + timedelta(days=32)).replace(day=1)
    name = f"{wanted.table}-{start:%Y-%m}.parquet"
    return Piece(name, start, following - timedelta(days=1), rows)


def reading(wanted: Wanted, one: Piece) -> Statement:
    """All rows of a piece, always in the same order."""
    since, until = wanted.since, wanted.until
    if one.first is not None and one.last is not None:
        since = max(filter(None, (since, one.first)))
        until = min(filter(None, (until, one.last + timedelta(days=1))))
    where, parameters = _filter(wanted, since, until)
    order = SHAPES[wanted.table].order
    return (f"SELECT * FROM {wanted.table} WHERE {where} ORDER BY {order}", parameters)


def _filter(wanted: Wanted, since: date | None, until: date | None) -> Statement:
    time = SHAPES[wanted.table].time
    parts = {
        "tenant_id = {tenant:String}": ("tenant", wanted.tenant),
        "session_id = {session:String}": ("session", wanted.session),
        f"{time} >= {{since:Date}}": ("since", str(since or "")),
        f"{time} < {{until:Date}}": ("until", str(until or "")),
    }
    given = {text: named for text, named in parts.items() if named[1]}
    return " AND ".join(given) or "1", dict(given.values())
