"""A session's events without gaps, out of a stream that has no replay: open the stream, list, drop repeats, tail.

A clean end of the stream says nothing, so every end is followed by opening it again and listing. Before an idle is
given on, everything it closes over is: the fate of user events that were seen queued, and the events of child
threads, which the session's own stream only hints at.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import TypeVar

import anthropic
from anthropic import AsyncAnthropic

from services.agent_worker.ports import ProviderFailure
from services.agent_worker.provider import stream
from services.agent_worker.provider.dedupe import Sieve, in_order
from services.agent_worker.provider.failures import explained, failure
from services.agent_worker.provider.list_overlap import KNOWN_RUN, unrecorded
from services.agent_worker.provider.room import Line, Room
from services.agent_worker.provider.stream import GLANCE, PAGE, newest_first, of_thread
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
ENDS = frozenset({"session.status_terminated", "session.deleted"})
# A batch is held this long, so that neighbours the stream swapped are recorded in the list's order (seen up to
# 74 ms apart in time, but side by side on the wire), and a burst costs one write instead of many.
SETTLE_SECONDS = 0.02
MAX_BATCH = 512
log = logs.get(__name__)
T = TypeVar("T")


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
        self._sieve = Sieve(recorded, now, state.prompts)
        # Whether something is still to come from the provider, as far as was seen.
        self._working = state.turn is not None
        self._ended = False
        self._children: dict[str, asyncio.Task[None] | None] = dict.fromkeys(state.threads)
        # Children whose list may hold what we have not: those that ran since it was read.
        self._behind = set(state.threads)
        self._flushed = False
        # Whether a message may have been begun before the stream was opened: none is shown until that is over.
        self._midway = True
        self._queue = Line(room)
        self._opened = asyncio.Event()
        self._failure: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._task = asyncio.create_task(self._run())

    async def opened(self) -> None:
        """See Feed.opened."""
        await self._unless_failed(self._opened.wait())

    async def next(self) -> tuple[ProviderEvent, ...]:
        """See Feed.next. Who asks has done with the batch before."""
        queue = self._queue
        queue.done()
        first = await self._unless_failed(queue.get()) if queue.empty() else queue.get_nowait()
        if first.type != "session.status_idle":
            await asyncio.sleep(SETTLE_SECONDS)
        return in_order([first, *queue.more(MAX_BATCH - 1)])

    async def close(self) -> None:
        """Stop listening."""
        tasks = [self._task, *(task for task in self._children.values() if task is not None)]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        self._queue.close()

    async def _unless_failed(self, waiting: Awaitable[T]) -> T:
        """What `waiting` gives. Raises ProviderFailure once the stream is lost for good."""
        task = asyncio.ensure_future(waiting)
        try:
            await asyncio.wait((task, self._failure), return_when=asyncio.FIRST_COMPLETED)
            if not task.done():
                self._failure.result()
            return task.result()
        finally:
            task.cancel()

    # ---- the session's own stream -----------------------------------------------------------------------------

    async def _run(self) -> None:
        try:
            await stream.follow(
                lambda: stream.primary(self._client, self._session),
                opened=self._on_opened,
                take=self._take,
                ended=self._opened.clear,
                failed=lambda error: explained(self._client, self._session, error, alone=True),
                chance=self._chance,
            )
        except Exception as failed:
            self._fail(failed)

    def _fail(self, failed: Exception) -> None:
        """Nothing more can be told: the session is gone, or this code is wrong."""
        if not self._failure.done():
            self._failure.set_exception(failed)
            self._failure.exception()  # read, so that a feed nobody waits for is no error

    async def _on_opened(self) -> None:
        self._midway = True
        if not self._fresh:
            await self._catch_up()
            await self._catch_up_children()
            await self._check_alive()
        self._fresh = False
        self._opened.set()

    async def _check_alive(self) -> None:
        """Raises ProviderFailure for a session that was closed behind our back in mid-turn: a stream on one opens
        and stays silent, and its list need not tell."""
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
        if not self._sieve.knows(head.id):
            if head.type == "session.status_idle":
                await self._before_idle(raw, head.id)
            elif self._sieve.holds and self._takes_up(head.type, raw):
                # What was seen queued is taken up by now: its place is before this, and only the list may say so.
                await self._catch_up(head.id)
        await self._emit(raw, source="stream")

    def _takes_up(self, kind: str, raw: bytes) -> bool:
        """Whether this event is the work on what was held. A session that was answered runs, so does a child; the
        primary thread may ask no model before all children are done."""
        if kind == "session.status_running":
            return self._sieve.holds_answers
        wakes = kind == "session.thread_status_running"
        return kind in TAKE_UPS or (wakes and provider.thread_of(raw) in self._children)

    async def _emit(self, raw: bytes, *, source: str, thread: str | None = None) -> bool:
        """Give an event on, unless it is known; returns whether it was news."""
        event = self._sieve.news(raw, thread)
        if event is None:
            return False
        metrics.inc("turnstile_provider_events_total", source=source)
        await self._queue.put(event)
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
            self._flushed |= provider.error(event.raw).retry_status in ("exhausted", "terminal")
        elif event.type == "session.status_running":
            self._working = True
        elif event.type == "session.status_idle":
            self._working = provider.stop_reason(event.raw).type == "requires_action"
        elif event.type in ENDS:
            self._ended = True

    async def _catch_up(self, until: str = "") -> None:
        """Give on what the list has and we have not, in the list's order, up to (without) the event `until`."""
        with telemetry.span("provider.reconcile"):
            telemetry.note({"turnstile.reconcile.found": await self._from_list(until)})

    async def _from_list(self, until: str) -> int:
        found = 0
        for raw in await self._missed():
            head = provider.head(raw)
            if head.id == until:
                break
            if head.type == "session.status_idle":
                await self._before_idle(raw, "")
            found += await self._emit(raw, source="list")
        return found

    async def _missed(self) -> list[bytes]:
        """Listed events that are news, oldest first. Those still queued are noted and left out.

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
                    self._sieve.news(raw)
                elif not self._sieve.knows(head.id):
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
        await self._catch_up_children()
        flushed = self._flushed or reason in FLUSHES
        if until and (flushed or self._sieve.holds):
            await self._catch_up(until)
        if flushed:
            for event in self._sieve.settle(provider.head(idle).processed_at):
                await self._queue.put(event)
        self._flushed = False

    # ---- child threads ----------------------------------------------------------------------------------------

    def _listen_to_child(self, event: ProviderEvent) -> None:
        """A child was made, or runs again. The primary thread's own status events name no child we know."""
        thread = provider.thread_of(event.raw)
        if thread is None:
            return
        made = event.type == "session.thread_created"
        if made or thread in self._children:
            self._behind.add(thread)
        if (made or thread in self._children) and self._children.get(thread) is None:
            self._children[thread] = asyncio.create_task(self._follow_child(thread))

    async def _follow_child(self, thread: str) -> None:
        async def take(raw: bytes) -> None:
            await self._emit(raw, source="stream", thread=thread)

        async def opened() -> None:
            await self._catch_up_child(thread)

        try:
            await stream.follow(
                lambda: stream.child(self._client, self._session, thread),
                opened=opened,
                take=take,
                ended=lambda: None,
                failed=_of_child,
                chance=self._chance,
            )
        except ProviderFailure:
            self._children[thread] = None  # gone as a stream; its list is read before the idle
            self._behind.add(thread)
        except Exception as failed:
            self._fail(failed)

    async def _catch_up_children(self) -> None:
        """Read the lists of those that ran: of all, a turn would cost as much as the session has children."""
        for thread in tuple(self._behind):
            self._behind.discard(thread)
            try:
                await self._catch_up_child(thread)
            except anthropic.NotFoundError:
                # The thread is gone, not the session, whose own list tells of itself. Asked again at the next idle.
                self._behind.add(thread)
                log.warning("thread_not_found", provider_session_id=self._session, thread=thread)
            except BaseException:
                self._behind.add(thread)
                raise

    async def _catch_up_child(self, thread: str) -> None:
        """Give on what a child's list has and we have not; the list is oldest first."""
        pages = of_thread(self._client, self._session, thread)
        if self._sieve.forgets(thread):
            for raw in await unrecorded(pages, self._sieve.knows):
                await self._emit(raw, source="list", thread=thread)
            return
        async for page in pages:
            for raw in page:
                await self._emit(raw, source="list", thread=thread)


async def _of_child(error: BaseException) -> ProviderFailure:
    return failure(error, session=True)
