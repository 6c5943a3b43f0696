"""A session's events without gaps, out of a stream that has no replay: open the stream, list, drop repeats, tail.

A clean end of the stream says nothing, so every end is followed by opening it again and listing. Before an idle is
given on, everything it closes over is: the fate of user events that were seen queued, and the events of child
threads, which the session's own stream only hints at.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable

import anthropic
from anthropic import AsyncAnthropic
from msgspec.structs import replace

from services.agent_worker.ports import ProviderFailure
from services.agent_worker.provider import stream
from services.agent_worker.provider.dedupe import Deduplicator
from services.agent_worker.provider.failures import WIRE_ERRORS, explained, failure
from services.agent_worker.provider.list_overlap import KNOWN_RUN, unrecorded
from services.agent_worker.provider.room import Line, Room
from services.agent_worker.provider.stream import GLANCE, PAGE, newest_first, of_thread
from services.agent_worker.provider.thread_models import ThreadModels
from shared import logs, metrics, telemetry
from shared.session import provider
from shared.session.inputs import ProviderEvent
from shared.session.state import SessionState

# After these the provider's queue is empty, whatever was in it (docstring of session.error: "flushed").
FLUSHES = frozenset({"retries_exhausted", "budget_reached"})
# At the latest before these an event that was seen queued has its place.
TAKE_UPS = frozenset({"span.model_request_start", "user.interrupt"})
# Behind these no message is in the making of which a stream that was opened in between would show only the rest.
BETWEEN_MESSAGES = frozenset(
    {
        "session.status_running",
        "session.status_idle",
        "span.model_request_start",
        "span.model_request_end",
    }
)
CHILD_WAKES = frozenset({"session.thread_created", "session.thread_status_running"})
CHILD_STATUS = "session.thread_status_"
CHILD_RESTS = frozenset({"session.thread_status_idle", "session.thread_status_terminated"})
ENDS = frozenset({"session.status_terminated", "session.deleted"})
# These may come between a message and its place in the list, whether its echo said so or not.
BEFORE_MESSAGES = frozenset(
    {"session.status_running", "session.thread_status_running", "session.error"}
)
# How long a session that went idle may take to begin with what is queued.
TAKE_UP_SECONDS = 1.0
# Events wait this long, so that neighbours the stream swapped are recorded in the list's order (seen up to 74 ms
# apart in time, but side by side on the wire), and a burst costs one write instead of many.
SETTLE_SECONDS = 0.02
MAX_BATCH = 512
log = logs.get(__name__)


class SessionFeed:
    """One provider session's events. Listens from the moment it is made until it is closed."""

    def __init__(
        self,
        client: AsyncAnthropic,
        state: SessionState,
        *,
        fresh: bool,
        now: Callable[[], str],
        chance: Callable[[], float],
        on_preview: Callable[[bytes], None],
        room: Room,
    ) -> None:
        self._client = client
        self._session = state.provider_session_id or ""
        self._fresh = fresh
        self._chance = chance
        self._on_preview = on_preview
        recorded: dict[str | None, tuple[str, ...]] = {None: state.tail}
        recorded.update(state.threads)
        self._dedupe = Deduplicator(recorded, now, state.prompts)
        # Whether something is still to come from the provider, as far as was seen.
        self._working = state.turn is not None
        self._ended = False
        self._children: dict[str, asyncio.Task[None] | None] = dict.fromkeys(state.threads)
        # Children whose list may hold what we have not, or will: those that ran since it was read, or run still.
        self._behind = set(state.threads)
        self._flushed = False
        # Whether a message may have been begun before the stream was opened: none is shown until that is over.
        self._midway = True
        # A user event was seen without its time: it may be processed, and only the list has its place.
        self._unplaced = False
        self._line = Line(room)
        # Events that were taken back when their stream ended or their place was in doubt, by thread and id.
        self._kept: dict[str | None, dict[str, ProviderEvent]] = {}
        self._reading: dict[str, asyncio.Lock] = {}
        self._models = ThreadModels(client, self._session)
        # Children whose stream has ended, until its next opening has read what came meanwhile.
        self._torn: set[str] = set()
        self._opened = asyncio.Event()
        self._failure: Exception | None = None
        self._task = asyncio.create_task(self._run())

    async def opened(self) -> None:
        """See ProviderFeed.opened."""
        if self._failure is None:
            await self._opened.wait()
        if self._failure is not None:
            raise self._failure

    async def next(self) -> tuple[ProviderEvent, ...]:
        """See ProviderFeed.next. Who asks has done with the batch before."""
        self._line.done()
        while True:
            if given := self._dedupe.give(await self._line.take(SETTLE_SECONDS, MAX_BATCH)):
                return tuple(given)

    async def close(self) -> None:
        """Stop listening."""
        tasks = [self._task, *(task for task in self._children.values() if task is not None)]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        self._line.close()

    # ---- the session's own stream -----------------------------------------------------------------------------

    async def _run(self) -> None:
        try:
            await stream.follow(
                lambda: stream.primary(self._client, self._session),
                opened=self._on_opened,
                take=self._take,
                ended=self._on_ended,
                failed=self._refused,
                chance=self._chance,
            )
        except Exception as failed:
            await self._fail(failed)

    async def _refused(self, error: BaseException) -> ProviderFailure:
        """What an error of the stream means. A session is lost once its lists were read, or are gone with it."""
        told = await explained(self._client, self._session, error, alone=True)
        if told.lost:
            try:
                await self._catch_up()
                await self._catch_up_children(closing=True)
            except WIRE_ERRORS as unread:
                away = failure(unread, session=True)
                return told if away.lost or away.final else away
        return told

    async def _fail(self, failed: Exception) -> None:
        """Nothing more can be told, beyond what came: the session is gone, or this code is wrong."""
        for thread in tuple(self._kept):
            await self._merge(thread, [])
        if self._failure is None:
            self._failure = failed
            self._line.end(failed)
            self._opened.set()

    async def _on_opened(self) -> None:
        self._midway = True
        if not self._fresh:
            await self._catch_up()
            await self._catch_up_children(closing=not self._working)
            await self._check_alive()
        self._fresh = False
        self._opened.set()

    def _on_ended(self) -> None:
        self._opened.clear()
        self._retract(None)

    async def _check_alive(self) -> None:
        """Raises ProviderFailure for a session that somebody else closed in mid-turn: a stream on one opens and
        stays silent, and its list need not tell."""
        if not self._working or self._ended:
            return
        session = await self._client.beta.sessions.retrieve(self._session)
        if session.archived_at is not None or session.status == "terminated":
            raise ProviderFailure("session_lost", f"the session is {session.status}", lost=True)

    async def _take(self, raw: bytes) -> None:
        head = provider.head(raw)
        if head.type in ("event_start", "event_delta"):
            if not self._midway:
                self._on_preview(raw)
            return
        self._midway &= head.type not in BETWEEN_MESSAGES
        if not self._dedupe.has(head.id):
            if head.type == "session.status_idle":
                await self._before_idle(raw, head.id)
            elif head.type == "session.status_terminated":
                await self._catch_up_or_deleted(head.id)
                await self._before_end(head, listed=False)
            elif self._holds_beside(head) and self._takes_up(head.type, raw):
                # What was seen queued is taken up by now: its place is before this, and only the list may say so.
                await self._catch_up(head.id)
        await self._emit(raw, source="stream")
        self._unplaced &= self._dedupe.holds
        if head.processed_at is None and self._dedupe.holds:
            self._unplaced = True
            if any(self._tells(event.type) for event in self._line.waiting(None)):
                await self._catch_up()  # its place may be before what came before it

    def _holds_beside(self, head: provider.Head) -> bool:
        """Whether an event is held whose place this one does not tell: shown with its time, it is in its own."""
        if head.processed_at is None:
            return self._dedupe.holds
        return self._dedupe.holds_beside(head.id)

    def _tells(self, kind: str) -> bool:
        """Whether a user event that was seen without its time may have its place before an event of this type."""
        return self._dedupe.holds_answers or kind not in BEFORE_MESSAGES

    def _takes_up(self, kind: str, raw: bytes) -> bool:
        """Whether this event is the work on what was held, or as good as any to ask for its place. A session that
        was answered runs, so does a child; the primary thread may ask no model before all children are done."""
        if self._unplaced and self._tells(kind):
            return True
        if kind == "session.status_running":
            return self._dedupe.holds_answers
        wakes = kind == "session.thread_status_running"
        return kind in TAKE_UPS or (wakes and provider.thread_of(raw) in self._children)

    async def _emit(self, raw: bytes, *, source: str, thread: str | None = None) -> bool:
        """Give an event on, unless it is known; returns whether it was news."""
        event = self._dedupe.news(raw, thread)
        if event is None:
            return False
        if thread is not None and event.type == "span.model_request_end":
            event = replace(event, model=self._models.known(thread))
        metrics.inc("turnstile_provider_events_total", source=source)
        await self._line.put(event, listed=source == "list")
        if thread is None:
            self._note(event)
        elif source == "stream":
            self._behind.add(thread)
        return True

    def _note(self, event: ProviderEvent) -> None:
        """What an event of the primary thread means for the reading of what follows."""
        if event.type in CHILD_WAKES:
            self._listen_to_child(event)
        elif event.type == "session.error":
            error = provider.error(event.raw)  # one of an MCP server need not be the end
            self._flushed |= not error.server and error.retry_status in ("exhausted", "terminal")
        elif event.type == "session.status_running":
            self._working = True
        elif event.type == "session.status_idle":
            self._working = provider.stop_reason(event.raw).type == "requires_action"
        elif event.type in ENDS:
            self._ended = True

    # ---- the lists --------------------------------------------------------------------------------------------

    async def _catch_up(self, until: str = "") -> None:
        """Give on what the list has and we have not, in the list's order, up to (without) the event `until`."""
        with telemetry.span("provider.reconcile"):
            self._retract(None)
            missed = await self._missed()
            self._unplaced = False
            telemetry.note({"turnstile.reconcile.found": await self._merge(None, missed, until)})

    def _retract(self, thread: str | None) -> None:
        """Take back what was not given on of a thread: its place is told by the list, with what came between."""
        kept = self._kept.setdefault(thread, {})
        kept.update((event.id, event) for event in self._line.retract(thread))

    async def _merge(self, thread: str | None, listed: list[bytes], until: str = "") -> int:
        """Give on the listed events up to `until`, then what was kept; what is not listed yet is placed by its
        time. Returns how many were news."""
        kept, found = self._kept.setdefault(thread, {}), 0
        heads = [provider.head(raw) for raw in listed]
        unlisted = sorted(kept.keys() - {head.id for head in heads}, key=lambda id: kept[id].at)
        for raw, head in zip(listed, heads, strict=True):
            if head.id == until:
                break
            while unlisted and kept[unlisted[0]].at <= self._dedupe.moment(head.processed_at):
                await self._line.put(kept.pop(unlisted.pop(0)), listed=True)
            if head.type == "session.status_idle" and thread is None:
                await self._before_idle(raw, "")
            elif head.type in ENDS and thread is None:
                await self._before_end(head, listed=True)
            if head.id in kept:
                await self._line.put(kept.pop(head.id), listed=True)
                continue
            found += await self._emit(raw, source="list", thread=thread)
        while kept:
            await self._line.put(kept.pop(next(iter(kept))))
        return found

    async def _missed(self) -> list[bytes]:
        """Listed events that were not given on, oldest first. Those still queued are noted and left out.

        What lies behind a run of known events was recorded, whether its ids are still known or not.
        """
        missed = await self._walked(GLANCE)
        if missed is None:
            missed = await self._walked(PAGE)
        return (missed or [])[::-1]

    async def _walked(self, limit: int) -> list[bytes] | None:
        """What was missed, newest first; None when a glance, one page, does not show all of it."""
        missed, run = list[bytes](), 0
        async for page in newest_first(self._client, self._session, limit=limit):
            for raw in page:
                head = provider.head(raw)
                if head.processed_at is None and head.type.startswith("user."):
                    self._dedupe.news(raw)
                elif not self._dedupe.knows(head.id):
                    missed.append(raw)
                    run = 0
                elif (run := run + 1) >= KNOWN_RUN:
                    return missed
            if limit == GLANCE == len(page):
                return None
        return missed

    async def _before_idle(self, idle: bytes, until: str) -> None:
        """Give on what an idle closes over. While answers are awaited nothing is closed.

        `until` is the id of an idle that came by stream: then the list may tell that what is held was processed.
        What the provider flushed from its queue never will be, and is given on as it is. Most of it was never
        shown, and a message that is listed and not recorded would pass for the one the next attempt is to send.
        """
        reason = provider.stop_reason(idle).type
        if reason == "requires_action":
            return
        await self._catch_up_children(closing=True)
        flushed = self._flushed or reason in FLUSHES
        if until and (flushed or self._dedupe.holds):
            await self._catch_up(until)
        if flushed:
            await self._give_up_queued(provider.head(idle).processed_at, listed=not until)
        self._flushed = False

    async def _give_up_queued(self, at: str | None, *, listed: bool) -> None:
        """Give on what was flushed at that time; `listed`: by an idle that the list told, to stay with it. A
        message that was sent into the end of a turn may have come behind the flush, and looks the same until it is
        taken up: so what is queued has a moment to be."""
        queued = self._dedupe.held
        if queued:
            await asyncio.sleep(TAKE_UP_SECONDS)
            queued -= {_id(raw) for raw in await self._missed()}
        for event in self._dedupe.settle(at, queued):
            await self._line.put(event, listed=listed)

    async def _catch_up_or_deleted(self, until: str) -> None:
        """Catch up with the list of a session that has ended, unless it was deleted right away."""
        try:
            await self._catch_up(until)
        except anthropic.NotFoundError:
            await self._merge(None, [])

    async def _before_end(self, end: provider.Head, *, listed: bool) -> None:
        """Give on what the end of the session closes over: nobody listens to it afterwards. What is still queued
        is never processed. `listed`: by an end that the list told, to stay with it."""
        await self._catch_up_children(closing=True)
        for event in self._dedupe.settle(end.processed_at, self._dedupe.held):
            await self._line.put(event, listed=listed)

    # ---- child threads ----------------------------------------------------------------------------------------

    def _listen_to_child(self, event: ProviderEvent) -> None:
        """A child was made, or runs again. The primary thread's own status events name no child we know."""
        thread = provider.thread_of(event.raw)
        if thread is None:
            return
        if event.type == "session.thread_created" or thread in self._children:
            self._attend(thread)

    def _attend(self, thread: str) -> None:
        """Listen to a child that runs; its list is read before the next idle that closes over it."""
        self._behind.add(thread)
        if self._children.get(thread) is None:
            self._children[thread] = asyncio.create_task(self._follow_child(thread))

    async def _follow_child(self, thread: str) -> None:
        async def take(raw: bytes) -> None:
            async with self._lock(thread):  # not between what its list has, when that is being read
                await self._emit(raw, source="stream", thread=thread)

        async def opened() -> None:
            await self._catch_up_child(thread)
            self._torn.discard(thread)

        def ended() -> None:
            self._torn.add(thread)
            self._behind.add(thread)  # what is taken back comes again before an idle at the latest
            self._retract(thread)

        try:
            await stream.follow(
                lambda: stream.child(self._client, self._session, thread),
                opened=opened,
                take=take,
                ended=ended,
                failed=_of_child,
                chance=self._chance,
            )
        except ProviderFailure:
            self._children[thread] = None  # gone as a stream; its list is read before the idle
            self._behind.add(thread)
            await self._give_back(thread)
        except Exception as failed:
            await self._fail(failed)

    async def _give_back(self, thread: str) -> None:
        """Give on what was taken back of a child that has no list to tell its place."""
        async with self._lock(thread):
            await self._merge(thread, [])

    def _lock(self, thread: str) -> asyncio.Lock:
        return self._reading.setdefault(thread, asyncio.Lock())

    async def _catch_up_children(self, *, closing: bool) -> None:
        """Read the lists of those that ran: of all, a turn would cost as much as the session has children.

        `closing`: none of them runs any more. Else one whose list does not say so is listened to from here on: what
        woke it may be recorded, and what it does next is told by no event of the primary thread.
        """
        for thread in sorted(self._behind):
            self._behind.discard(thread)
            try:
                rests = await self._catch_up_child(thread)
                if not (closing or rests):
                    self._attend(thread)
            except anthropic.NotFoundError:
                # The thread is gone, not the session, whose own list tells of itself. Asked again at the next idle.
                self._behind.add(thread)
                await self._give_back(thread)
                log.warning("thread_not_found", provider_session_id=self._session, thread=thread)
            except BaseException:
                self._behind.add(thread)
                raise

    async def _catch_up_child(self, thread: str) -> bool:
        """Give on what a child's list has and we have not; the list is oldest first. Returns whether it says that
        the child rests. Its model is asked for first: a wait between two events would lose their order."""
        await self._models.ask(thread)
        async with self._lock(thread):
            self._retract(thread)
            pages = _Status(of_thread(self._client, self._session, thread))
            try:
                missed = await self._missed_of(thread, pages.read())
            except Exception:
                if thread not in self._torn:  # its stream goes on
                    await self._merge(thread, [])
                raise
            await self._merge(thread, missed)
            return pages.last in CHILD_RESTS

    async def _missed_of(self, thread: str, pages: AsyncIterator[list[bytes]]) -> list[bytes]:
        knows = self._dedupe.knows
        if self._dedupe.forgets(thread):
            return await unrecorded(pages, knows)
        return [raw async for page in pages for raw in page if not knows(_id(raw))]


class _Status:
    """Pages of a child's list, passed on. `last`: the type of its newest status event; "" when there is none."""

    def __init__(self, pages: AsyncIterator[list[bytes]]) -> None:
        self._pages = pages
        self.last = ""

    async def read(self) -> AsyncIterator[list[bytes]]:
        async for page in self._pages:
            for raw in page:
                kind = provider.head(raw).type
                self.last = kind if kind.startswith(CHILD_STATUS) else self.last
            yield page


def _id(raw: bytes) -> str:
    return provider.head(raw).id


async def _of_child(error: BaseException) -> ProviderFailure:
    return failure(error, session=True)
