"""The log of one thread, in the order in which the API lists it.

Processed events are appended and never move. Events a client sent wait in `pending`, listed after
all others and without `processed_at`, and move to the end of the processed ones when their turn
comes. Each event is encoded once, when it is made.
"""

from __future__ import annotations

from typing import NamedTuple


class Entry(NamedTuple):
    """One event: its exact JSON in `data`; `at` in microseconds, None while it is queued."""

    id: str
    type: str
    at: int | None
    data: bytes


class EventLog:
    """The events of one thread."""

    def __init__(self) -> None:
        self.processed: list[Entry] = []
        self.pending: dict[str, Entry] = {}

    def queue(self, entry: Entry) -> None:
        """Files an event that is accepted and not yet processed."""
        self.pending[entry.id] = entry

    def append(self, entry: Entry) -> None:
        """Files a processed event; a queued one of the same id leaves the queue."""
        self.pending.pop(entry.id, None)
        self.processed.append(entry)

    def ordered(self) -> list[Entry]:
        """All events in list order."""
        return [*self.processed, *self.pending.values()]
