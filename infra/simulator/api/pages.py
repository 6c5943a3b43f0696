"""Pages of lists: opaque cursors, each bound to the query it came from."""

from __future__ import annotations

import base64
from collections.abc import Callable, Sequence
from typing import TypeVar

import msgspec

from infra.simulator.errors import bad
from infra.simulator.play.log import Entry, EventLog

T = TypeVar("T")
Keep = Callable[[Entry], bool]


class Cursor(msgspec.Struct, array_like=True, forbid_unknown_fields=True):
    """Where a page starts. `query` is the list and order it belongs to."""

    query: str
    position: int
    after: str = ""  # id of the last pending event already shown


_CURSOR = msgspec.msgpack.Decoder(Cursor)


def encode(cursor: Cursor) -> str:
    return base64.urlsafe_b64encode(msgspec.msgpack.encode(cursor)).decode()


def decode(text: str | None, query: str) -> Cursor | None:
    """Raises ApiError 400 for a cursor of another list, filter or order, and for a made-up one."""
    if text is None:
        return None
    try:
        cursor = _CURSOR.decode(base64.urlsafe_b64decode(text.encode()))
    except (ValueError, msgspec.DecodeError):
        raise bad("page: not a cursor of this API") from None
    if cursor.query != query:
        raise bad("page: this cursor belongs to another list, order or filter")
    return cursor


def page_of(
    items: Sequence[T], page: str | None, query: str, limit: int
) -> tuple[list[T], str | None, str | None]:
    """One page of a plain list: the items, the next cursor and the previous one."""
    cursor = decode(page, query)
    start = cursor.position if cursor else 0
    end = start + limit
    following = encode(Cursor(query, end)) if end < len(items) else None
    before = encode(Cursor(query, max(0, start - limit))) if start else None
    return list(items[start:end]), following, before


def forward(
    log: EventLog, keep: Keep, cursor: Cursor | None, query: str, limit: int
) -> tuple[list[Entry], str | None]:
    """A page in list order: processed events, then those still queued.

    A queued event that is processed between two pages may show twice, never not at all.
    """
    start = cursor.position if cursor else 0
    found: list[Entry] = []
    for index in range(start, len(log.processed)):
        if keep(log.processed[index]):
            if len(found) == limit:
                return found, encode(Cursor(query, index))
            found.append(log.processed[index])
    pending = [entry for entry in log.pending.values() if keep(entry)]
    if cursor and cursor.after in log.pending:
        pending = pending[[entry.id for entry in pending].index(cursor.after) + 1 :]
    room = limit - len(found)
    if len(pending) <= room:
        return found + pending, None
    shown = pending[:room]
    last = shown[-1].id if shown else ""
    return found + shown, encode(Cursor(query, len(log.processed), last))


def backward(
    log: EventLog, keep: Keep, cursor: Cursor | None, query: str, limit: int
) -> tuple[list[Entry], str | None]:
    """A page newest first: queued events, then processed ones; repeats possible as in `forward`."""
    found: list[Entry] = []
    if cursor is None or cursor.after:
        pending = [entry for entry in reversed(log.pending.values()) if keep(entry)]
        ids = [entry.id for entry in pending]
        if cursor and cursor.after in ids:
            pending = pending[ids.index(cursor.after) + 1 :]
        found = pending[:limit]
        if len(pending) > limit:
            return found, encode(Cursor(query, 0, found[-1].id))
        cursor = None
    start = cursor.position if cursor else len(log.processed)
    for index in range(start - 1, -1, -1):
        if keep(log.processed[index]):
            if len(found) == limit:
                return found, encode(Cursor(query, index + 1))
            found.append(log.processed[index])
    return found, None
