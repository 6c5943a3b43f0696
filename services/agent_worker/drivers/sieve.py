"""Which of the events that come by are news: every id once, user events once they are processed.

Pure but for the clock it is given. The stream and the list overlap, a reconnect repeats, children's events are
cross-posted, and a user event is seen queued (no `processed_at`) before it is seen processed.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Iterable

from msgspec.structs import replace

from shared.moment import normal
from shared.session import provider
from shared.session.inputs import ProviderEvent

# Ids remembered while a session is watched: a repeat comes within a reconnect, not thousands of events later.
MAX_KNOWN = 8_192


class Sieve:
    """Remembers what was let through. `now` stamps events that carry no time of their own."""

    def __init__(self, known: Iterable[str], now: Callable[[], str]) -> None:
        self._known: OrderedDict[str, None] = OrderedDict.fromkeys(known)
        self._now = now
        self._held: dict[str, ProviderEvent] = {}

    @property
    def holds(self) -> bool:
        """Whether user events were seen that have not been processed yet."""
        return bool(self._held)

    def knows(self, event_id: str) -> bool:
        """Whether this event was let through already."""
        return event_id in self._known

    def news(self, raw: bytes, thread: str | None = None) -> ProviderEvent | None:
        """The event when it is news; None when it is known, held back, or no event (it has no id).

        Raises msgspec.DecodeError (a ValueError) when `raw` is no JSON object.
        """
        head = provider.head(raw)
        if not head.id or head.id in self._known:
            return None
        at = normal(head.processed_at) if head.processed_at else self._now()
        event = ProviderEvent(id=head.id, type=head.type, at=at, raw=raw, thread_id=thread)
        if head.processed_at is None and head.type.startswith("user."):
            self._held[head.id] = event
            return None
        self._held.pop(head.id, None)
        return self._let_through(event)

    def settle(self, at: str | None) -> list[ProviderEvent]:
        """Let through what is still held: it will not be processed before the turn ends, at `at`."""
        held, self._held = self._held, {}
        moment = normal(at) if at else self._now()
        return [self._let_through(replace(event, at=moment)) for event in held.values()]

    def _let_through(self, event: ProviderEvent) -> ProviderEvent:
        self._known[event.id] = None
        if len(self._known) > MAX_KNOWN:
            self._known.popitem(last=False)
        return event


def in_order(batch: list[ProviderEvent]) -> tuple[ProviderEvent, ...]:
    """The batch with each thread's events in the order of their times, as the provider lists them; equal times keep
    their order, and so do threads among each other."""
    places: dict[str | None, list[int]] = {}
    for place, event in enumerate(batch):
        places.setdefault(event.thread_id, []).append(place)
    ordered = list(batch)
    for mine in places.values():
        for place, event in zip(mine, sorted((batch[i] for i in mine), key=_at), strict=True):
            ordered[place] = event
    return tuple(ordered)


def _at(event: ProviderEvent) -> str:
    return event.at
