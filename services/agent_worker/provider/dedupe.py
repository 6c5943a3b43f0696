"""Which of the events that come by are news: every id once, user events once they are processed.

Pure but for the clock it is given. The stream and the list overlap, a reconnect repeats, children's events are
cross-posted, and a user event is seen queued (no `processed_at`) before it is seen processed.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Mapping

from msgspec.structs import replace

from shared.moment import normal
from shared.session import provider
from shared.session.inputs import ProviderEvent
from shared.session.state import TAIL

# Ids remembered of each thread: a repeat comes within a reconnect, not thousands of events later. Of each, so that
# a busy thread does not wash away where the others stand.
MAX_KNOWN = 2_048
ANSWERS = frozenset({"user.tool_confirmation", "user.custom_tool_result", "user.tool_result"})


class Sieve:
    """Remembers what was let through. `recorded`: the newest ids of each thread (None: the primary one) that came
    before, up to `TAIL` of them; `now` stamps events that carry no time of their own."""

    def __init__(
        self,
        recorded: Mapping[str | None, Iterable[str]],
        now: Callable[[], str],
        prompts: Iterable[str] = (),
    ) -> None:
        self._newest = {thread: deque(ids) for thread, ids in recorded.items()}
        self._forgetful = {thread for thread, ids in self._newest.items() if len(ids) >= TAIL}
        self._known = {*prompts, *(id for ids in self._newest.values() for id in ids)}
        self._now = now
        self._held: dict[str, ProviderEvent] = {}

    @property
    def holds(self) -> bool:
        """Whether user events were seen that have not been processed yet."""
        return bool(self._held)

    @property
    def holds_answers(self) -> bool:
        """Whether answers to tool calls are among them."""
        return any(event.type in ANSWERS for event in self._held.values())

    def knows(self, event_id: str) -> bool:
        """Whether this event was let through already."""
        return event_id in self._known

    def forgets(self, thread: str | None) -> bool:
        """Whether the thread has let through events that are not known any more: the oldest ones."""
        return thread in self._forgetful

    def news(self, raw: bytes, thread: str | None = None) -> ProviderEvent | None:
        """The event when it is news; None when it is known, held back, or no event (it has no id).

        Raises msgspec.DecodeError (a ValueError) when `raw` is no JSON object.
        """
        head = provider.head(raw)
        if not head.id or head.id in self._known:
            return None
        at = self._moment(head.processed_at)
        event = ProviderEvent(id=head.id, type=head.type, at=at, raw=raw, thread_id=thread)
        if head.processed_at is None and head.type.startswith("user."):
            self._held[head.id] = event
            return None
        self._held.pop(head.id, None)
        return self._let_through(event)

    def settle(self, at: str | None) -> list[ProviderEvent]:
        """Let through what is still held: it will not be processed before the turn ends, at `at`."""
        held, self._held = self._held, {}
        moment = self._moment(at)
        return [self._let_through(replace(event, at=moment)) for event in held.values()]

    def _moment(self, at: str | None) -> str:
        """A time as events carry it; now for what is none."""
        try:
            return normal(at) if at else self._now()
        except ValueError:
            return self._now()

    def _let_through(self, event: ProviderEvent) -> ProviderEvent:
        newest = self._newest.setdefault(event.thread_id, deque())
        newest.append(event.id)
        self._known.add(event.id)
        if len(newest) > MAX_KNOWN:
            self._known.discard(newest.popleft())
            self._forgetful.add(event.thread_id)
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
