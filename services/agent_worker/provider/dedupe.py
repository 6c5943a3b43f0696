"""Which of the events that come by are news: every id once, user events once they are processed.

Pure but for the clock it is given. The stream and the list overlap, a reconnect repeats, children's events are
cross-posted, and a user event is seen queued (no `processed_at`) before it is seen processed.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Collection, Iterable, Mapping

from msgspec.structs import replace

from shared.moment import normal
from shared.session import provider
from shared.session.inputs import ProviderEvent
from shared.session.state import TAIL

# Ids remembered of each thread: a repeat comes within a reconnect, not thousands of events later. Of each, so that
# a busy thread does not wash away where the others stand.
MAX_KNOWN = 2_048
ANSWERS = frozenset({"user.tool_confirmation", "user.custom_tool_result", "user.tool_result"})


class Deduplicator:
    """Remembers what came in and what was given on. `recorded`: the newest ids of each thread (None: the primary
    one) that came before, up to `TAIL` of them; `now` stamps events that carry no time of their own.

    What two threads show under one id comes in once from each and is given on once, from whichever is first: the
    other's copy may be on its way when a stream or the process ends.
    """

    def __init__(
        self,
        recorded: Mapping[str | None, Iterable[str]],
        now: Callable[[], str],
        prompts: Iterable[str] = (),
    ) -> None:
        self._newest = {thread: deque(ids) for thread, ids in recorded.items()}
        self._forgetful = {thread for thread, ids in self._newest.items() if len(ids) >= TAIL}
        self._known = {*prompts, *(id for ids in self._newest.values() for id in ids)}
        self._come: set[tuple[str | None, str]] = set()
        self._now = now
        self._held: dict[str, ProviderEvent] = {}

    @property
    def holds(self) -> bool:
        """Whether user events were seen that have not been processed yet."""
        return bool(self._held)

    @property
    def held(self) -> set[str]:
        """Ids of the user events that were seen and have not been processed yet."""
        return set(self._held)

    def holds_beside(self, event_id: str) -> bool:
        """Whether another user event than this was seen that has not been processed yet."""
        return len(self._held) > (event_id in self._held)

    @property
    def holds_answers(self) -> bool:
        """Whether answers to tool calls are among them."""
        return any(event.type in ANSWERS for event in self._held.values())

    def knows(self, event_id: str) -> bool:
        """Whether this event was given on already."""
        return event_id in self._known

    def forgets(self, thread: str | None) -> bool:
        """Whether events of the thread were given on that are not known any more: the oldest ones."""
        return thread in self._forgetful

    def has(self, event_id: str, thread: str | None = None) -> bool:
        """Whether this event of the thread came in already."""
        return event_id in self._known or (thread, event_id) in self._come

    def news(self, raw: bytes, thread: str | None = None) -> ProviderEvent | None:
        """The event when it is news; None when it came in already, is held back, or is no event (it has no id).

        Raises msgspec.DecodeError when `raw` is no JSON object.
        """
        head = provider.head(raw)
        if not head.id or self.has(head.id, thread):
            return None
        at = self.moment(head.processed_at)
        event = ProviderEvent(id=head.id, type=head.type, at=at, raw=raw, thread_id=thread)
        if head.processed_at is None and head.type.startswith("user."):
            self._held[head.id] = event
            return None
        self._held.pop(head.id, None)
        self._come.add((thread, event.id))
        return event

    def settle(self, at: str | None, ids: Collection[str]) -> list[ProviderEvent]:
        """Let in what is still held of these: it was not processed before the turn ended, `at`, nor will be."""
        held = {id: event for id, event in self._held.items() if id in ids}
        self._held = {id: event for id, event in self._held.items() if id not in ids}
        self._come |= {(event.thread_id, event.id) for event in held.values()}
        moment = self.moment(at)
        return [replace(event, at=moment) for event in held.values()]

    def give(self, events: Iterable[ProviderEvent]) -> list[ProviderEvent]:
        """Note that these events are given on; returns those that were not before."""
        given = []
        for event in events:
            self._come.discard((event.thread_id, event.id))
            if event.id not in self._known:
                self._note(event)
                given.append(event)
        return given

    def moment(self, at: str | None) -> str:
        """A time as events carry it; now for what is none."""
        try:
            return normal(at) if at else self._now()
        except ValueError:
            return self._now()

    def _note(self, event: ProviderEvent) -> None:
        newest = self._newest.setdefault(event.thread_id, deque())
        newest.append(event.id)
        self._known.add(event.id)
        if len(newest) > MAX_KNOWN:
            self._known.discard(newest.popleft())
            self._forgetful.add(event.thread_id)
