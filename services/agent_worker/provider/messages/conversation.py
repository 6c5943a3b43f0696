"""One conversation while it is watched: whoever watches it asks the model, as long as there is something to ask.

What happens becomes entries first and events then: an event that was given on is in the store. Two processes
that hold one conversation for a moment add to it by its newest entry; the answer of the second one is dropped.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

from anthropic import AsyncAnthropic

from services.agent_worker.ports import Conversations, Entry, ProviderFailure
from services.agent_worker.provider.failures import WIRE_ERRORS, failure
from services.agent_worker.provider.messages import dialog as dialogs
from services.agent_worker.provider.messages import entries
from services.agent_worker.provider.messages.dialog import Dialog
from services.agent_worker.provider.messages.stream import Answering
from services.agent_worker.provider.messages.window import Windows
from shared import logs
from shared.errors import Transient
from shared.session import provider
from shared.session.inputs import ProviderEvent
from shared.session.state import SessionState

Json = dict[str, Any]
Make = Callable[[Dialog], list[Entry]]
# Failures in a row of one request, before the turn is given back to be tried again as a whole.
TRIES = 4
LONGEST_WAIT = 30.0
# Who sends a message hears whether the model takes it, if that is known so soon.
HEARD_SECONDS = 5.0
# Tries to add behind what somebody else has added.
RACES = 3
TOO_LONG = "prompt is too long"
log = logs.get(__name__)


class _Overtaken(Exception):
    """Somebody else has gone on with the conversation while the model answered."""


class Conversation:
    """See ProviderFeed. Use within one task group of its maker: `run` is to be a task until `close`."""

    def __init__(
        self,
        client: AsyncAnthropic,
        store: Conversations,
        windows: Windows,
        state: SessionState,
        *,
        now: Callable[[], str],
        on_preview: Callable[[bytes], None],
    ) -> None:
        self.id = state.provider_session_id or ""
        self._client = client
        self._store = store
        self._windows = windows
        self._known = {*state.tail, *state.prompts}
        self._now = now
        self._on_preview = on_preview
        self._dialog: Dialog | None = None
        self._given: asyncio.Queue[ProviderEvent | Exception] = asyncio.Queue()
        self._lock = asyncio.Lock()
        self._wake = asyncio.Event()
        self._opened: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._heard: asyncio.Future[None] | None = None
        self._asking: asyncio.Task[None] | None = None
        self._halted = False
        self._wish: float | None = None
        self._task = asyncio.create_task(self._run())

    # ---- the feed --------------------------------------------------------------------------------------------

    async def opened(self) -> None:
        """See ProviderFeed.opened."""
        await asyncio.shield(self._opened)

    async def next(self) -> tuple[ProviderEvent, ...]:
        """See ProviderFeed.next."""
        given = [await self._given.get()]
        while not self._given.empty():
            given.append(self._given.get_nowait())
        events = [one for one in given if isinstance(one, ProviderEvent)]
        failed = next((one for one in given if isinstance(one, Exception)), None)
        if failed is not None:
            if not events:
                raise failed
            self._given.put_nowait(failed)
        return tuple(events)

    async def close(self) -> None:
        """Ask no more. What is being answered is asked again by whoever goes on."""
        tasks = [task for task in (self._task, self._asking) if task is not None]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        if self._opened.done():
            self._opened.exception()

    # ---- what is put to it -----------------------------------------------------------------------------------

    def has(self, source: str) -> bool:
        """Whether something of this source was said."""
        return source in self._there.sources

    async def say(self, content: list[Json], source: str) -> None:
        """Put a user's message to the model, once for each `source`. Raises ProviderFailure, a `final` one when the
        model refuses it for good and that is known soon."""
        self._heard = heard = asyncio.get_running_loop().create_future()
        said = await self._put(
            lambda d: [] if source in d.sources else entries.prompt(d, content, source, self._now())
        )
        if not said and self._there.phase != "ask":
            return
        self._wake.set()
        await asyncio.wait({heard}, timeout=HEARD_SECONDS)
        self._heard = None
        if heard.done():
            heard.result()

    async def answer(self, call: str, content: Any, *, is_error: bool, source: str) -> None:
        """Give a call its result; one that waits no more is left alone."""

        def make(d: Dialog) -> list[Entry]:
            if call not in d.calls or source in d.sources:
                return []
            return entries.result(
                d, call, content, is_error=is_error, source=source, at=self._now()
            )

        await self._put(make)
        self._wake.set()

    async def interrupt(self) -> None:
        """Stop what runs; nothing happens when nothing does."""
        self._halted = True
        try:
            if self._asking is not None:
                self._asking.cancel()
                await asyncio.wait({self._asking})
            await self._put(
                lambda d: [] if d.phase == "rest" else entries.interrupted(d, self._now())
            )
        finally:
            self._halted = False
            self._wake.set()

    # ---- the work --------------------------------------------------------------------------------------------

    async def _run(self) -> None:
        try:
            await self._load()
            self._opened.set_result(None)
            while True:
                while self._there.phase == "ask" and not self._halted:
                    self._asking = asyncio.create_task(self._ask())
                    await asyncio.wait({self._asking})
                    if not self._asking.cancelled():
                        self._asking.result()
                self._wake.clear()
                await self._wake.wait()
        except Exception as error:
            self._fail(error)

    def _fail(self, error: Exception) -> None:
        if not self._opened.done():
            self._opened.set_exception(error)
        self._hear(error)
        self._given.put_nowait(error)

    async def _load(self) -> None:
        found = await self._patiently(lambda: self._store.read(self.id))
        if not found:
            raise ProviderFailure("not_found_error", "no such conversation", lost=True)
        self._dialog = dialogs.opened(self.id, found)
        ids = (provider.head(entry.event).id if entry.event else "" for entry in found)
        behind = max((n for n, id in enumerate(ids) if id in self._known), default=0)
        for entry in found[behind + 1 :]:
            self._give(entry)

    @property
    def _there(self) -> Dialog:
        assert self._dialog is not None
        return self._dialog

    async def _ask(self) -> None:
        """One request, and what comes of it."""
        if not await self._added(lambda d: entries.broke(d, self._now())):  # left by one that died
            return
        if self._there.tries:
            await asyncio.sleep(self._wait(self._there.tries))
        try:
            await self._make_room()
            if self._there.phase != "ask":
                return
            answering = Answering(self._began, self._place, self._on_preview)
            message = await answering.read(self._client, dialogs.request(self._there))
        except WIRE_ERRORS as error:
            await self._refused(failure(error))
        except ProviderFailure as error:
            await self._refused(error)
        except _Overtaken:
            return  # somebody else has an answer: this one is dropped, whatever it cost
        else:
            await self._added(lambda d: entries.answer(d, message, self._now()))

    async def _began(self, usage: Json) -> None:
        if not await self._added(lambda d: entries.began(d, usage, self._now())):
            raise _Overtaken
        self._hear(None)

    def _place(self, content: list[Json]) -> str:
        return self._there.event_id(entries.message_place(content))

    async def _refused(self, error: ProviderFailure) -> None:
        self._wish = error.retry_after
        if error.final and TOO_LONG in error.detail and await self._compacted():
            return
        outcome: entries.Outcome = "retrying"
        if error.final:
            outcome = "final"
        elif self._there.tries + 1 >= TRIES:
            outcome = "exhausted"
        answered = self._there.answered
        if not await self._added(
            lambda d: entries.failed(d, error.reason, error.detail, outcome, self._now())
        ):
            return
        if outcome == "final" and (answered or self._heard is None or self._heard.done()):
            # Nobody waits who could be told: the turn goes on in another conversation.
            raise ProviderFailure(error.reason, error.detail, lost=True)
        self._hear(error if outcome == "final" else None)

    def _hear(self, error: Exception | None) -> None:
        if self._heard is None or self._heard.done():
            return
        if error is None:
            self._heard.set_result(None)
        else:
            self._heard.set_exception(error)
            self._heard.exception()  # read here, so that nobody asking is no error

    def _wait(self, tries: int) -> float:
        return min(self._wish or 0.5 * 2.0 ** (tries - 1), LONGEST_WAIT)

    # ---- the window ------------------------------------------------------------------------------------------

    async def _make_room(self) -> None:
        """Have the conversation fit with its answer, if anything of it can fall out."""
        while await self._windows.is_short(self._there):
            if not await self._compacted():
                return

    async def _compacted(self) -> bool:
        """Put a summary in place of the older half. False where nothing can fall out."""
        older, newer = dialogs.halves(self._there.messages)
        if not older:
            return False
        summary, usage = await self._windows.summary(self._there, older)
        messages = dialogs.shortened(newer, summary)
        return await self._added(
            lambda d: entries.compacted(d, messages, summary, usage, self._now())
        )

    # ---- entries ---------------------------------------------------------------------------------------------

    async def _put(self, make: Make) -> bool:
        """Add what `make` makes of the conversation as it is, whatever others add meanwhile; whether that was
        anything. Raises ProviderFailure."""
        for _ in range(RACES):
            async with self._lock:
                new = make(self._there)
                if not new:
                    return False
                if await self._append(new):
                    return True
        raise ProviderFailure("conversation_taken", "somebody else goes on with the conversation")

    async def _added(self, make: Make) -> bool:
        """Add to the conversation as it was when the model was asked. False, and nothing is added, when somebody
        else has gone on with it: what is to be done now follows from what is there now."""
        async with self._lock:
            new = make(self._there)
            return not new or await self._append(new)

    async def _append(self, new: list[Entry]) -> bool:
        if await self._patiently(lambda: self._store.append(self.id, new)):
            for entry in new:
                self._take(entry)
            return True
        missed = await self._patiently(lambda: self._store.read(self.id, self._there.position))
        if not missed and not await self._patiently(lambda: self._store.read(self.id)):
            raise ProviderFailure("not_found_error", "no such conversation", lost=True)
        for entry in missed:
            self._take(entry)
        return False

    def _take(self, entry: Entry) -> None:
        dialogs.grow(self._there, entry)
        self._give(entry)

    def _give(self, entry: Entry) -> None:
        head = provider.head(entry.event)
        event = ProviderEvent(
            id=head.id, type=head.type, at=head.processed_at or self._now(), raw=entry.event
        )
        self._given.put_nowait(event)

    async def _patiently(self, ask: Callable[[], Awaitable[Any]]) -> Any:
        """What `ask` returns, however long the database is away."""
        wait = 0.2
        while True:
            try:
                return await ask()
            except Transient as error:
                log.warning("conversation_waits_for_database", reason=error.reason)
                await asyncio.sleep(wait)
                wait = min(2 * wait, 5.0)
