"""Rows of the ledger out of the events that a write of a head records.

A row's key is the event's number and the line's place in it, and it is written with the head that has numbered the
event: so there is one row for each line, whoever dies when.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

import msgspec

from shared.session.events import Charge, Event, SessionCharged, Usage
from shared.tables.worker import LEDGER

_charged = msgspec.json.Decoder(SessionCharged)
CHARGED = "session.charged"
COLUMNS = tuple(column.name for column in LEDGER.columns)
# The provider's ids and names are short; a longer one is cut: a row that is refused would hold up its session.
_WIDTHS = {
    column.name: width
    for column in LEDGER.columns
    if (width := getattr(column.type, "length", None)) is not None
}


def ledger_rows(events: Iterable[Event]) -> list[dict[str, Any]]:
    """The rows of the lines in these events, by the columns of the ledger."""
    return [
        row
        for event in events
        if event.type == CHARGED
        for row in _rows(event, _charged.decode(event.data))
    ]


def _rows(event: Event, charged: SessionCharged) -> Iterable[dict[str, Any]]:
    about = {
        "tenant_id": event.tenant_id,
        "session_id": event.session_id,
        "seq": event.seq,
        "at": event.at,
        "turn_id": event.turn_id or "",
        "user_id": event.user_id,
        "agent": charged.agent,
        "provider_session_id": charged.provider_session_id,
    }
    return (
        _fitting({**about, "line": place, **_columns(line)})
        for place, line in enumerate(charged.lines)
    )


def _columns(line: Charge) -> dict[str, Any]:
    return {
        "kind": line.kind,
        "source": line.source,
        "thread_id": line.thread_id or "",
        "model": line.model,
        "price": line.price,
        **{name: getattr(line.tokens, name) for name in Usage.__struct_fields__},
        "cache_hour_tokens": line.cache_hour_tokens,
        "active_ms": line.active_ms,
        "micro_usd": line.micro_usd,
        "estimate": line.estimate,
    }


def _fitting(row: Mapping[str, Any]) -> dict[str, Any]:
    cut = {name: row[name][:width].replace("\0", "") for name, width in _WIDTHS.items()}
    return {**row, **cut}
