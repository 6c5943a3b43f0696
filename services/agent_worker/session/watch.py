"""One session's feed, pumped into its shell: what the provider says becomes signals, many to a write."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine, Sequence
from contextlib import AbstractAsyncContextManager

from services.agent_worker.ports import ProviderFailure, ProviderFeed
from services.agent_worker.session.core_inputs import CoreInputs
from services.agent_worker.session.driven import DrivenSession
from shared import telemetry
from shared.session.inputs import Input, Seen

# Events that may wait for one session's shell, and their bytes; beyond either the stream is not read on, and TCP
# holds the provider.
MAX_WAITING = 2_000
MAX_BYTES = 64 * 1024


class Watch:
    """Listens to the provider session that `session` is bound to at the time of making, through the feed that
    `listen` opens, in a task that `start` makes; it is told whether the provider session was just made (`fresh`).
    `opening`: the seconds that a feed may take.

    Every batch goes to `signal` as Seen. A feed that fails for good is reported once: to whoever waits for it in
    `feed`, or to `signal` as Failed when a turn is open and nobody asks. Whatever else is raised ends the task.
    """

    def __init__(
        self,
        session: DrivenSession,
        listen: Callable[[bool], AbstractAsyncContextManager[ProviderFeed]],
        *,
        fresh: bool,
        inputs: CoreInputs,
        signal: Callable[[Input], None],
        start: Callable[[Coroutine[None, None, None]], asyncio.Task[None]],
        opening: float,
    ) -> None:
        self.provider_session_id = session.state.provider_session_id or ""
        self._session = session
        self._listen = listen
        self._fresh = fresh
        self._inputs = inputs
        self._signal = signal
        self._opening = opening
        self._start = start
        self._untaken: list[Seen] = []  # what was signalled and not decided on
        self._waiting = self._bytes = 0
        self._untold: ProviderFailure | None = None
        self._room = asyncio.Event()
        self._ended = self._cancelled = False
        self._feed: asyncio.Future[ProviderFeed] = asyncio.get_running_loop().create_future()
        self._task = start(self._pump())

    async def feed(self) -> ProviderFeed:
        """The feed, once it listens. Raises ProviderFailure when it does not in time, or never will."""
        try:
            async with asyncio.timeout(self._opening):
                feed = await asyncio.shield(self._feed)
                await feed.opened()
                return feed
        except ProviderFailure:
            self._untold = None  # told now
            raise
        except TimeoutError:
            raise ProviderFailure(
                "stream_unavailable", f"no event stream within {self._opening:.0f} s"
            ) from None

    async def hear_out(self) -> None:
        """Signal all that a provider session has to say that takes nothing any more. Its stream may be silent and
        what it said still under way, so it is listened to anew: what was listed and not recorded comes first, then
        the failure. Raises ProviderFailure when that can't be had in time."""
        try:
            async with asyncio.timeout(self._opening):
                if not self._ended:
                    await self._listen_anew()
                await asyncio.wait([self._task])
        except TimeoutError:
            raise ProviderFailure(
                "stream_unavailable",
                f"what the lost session said could not be read within {self._opening:.0f} s",
            ) from None
        self._untold = None  # whoever asked tells of it

    async def _listen_anew(self) -> None:
        self._task.cancel()
        await asyncio.wait([self._task])
        while self._untaken:  # a feed leaves out what is recorded, and nothing else
            self._room.clear()
            await self._room.wait()
        if self._cancelled:
            return
        if self._feed.done():
            self._feed = asyncio.get_running_loop().create_future()
        self._fresh = False
        self._task = self._start(self._pump())

    def taken(self, inputs: Sequence[Input]) -> None:
        """These inputs have been decided on."""
        decided = {id(one) for one in inputs}
        self._untaken = [seen for seen in self._untaken if id(seen) not in decided]
        self._count()
        self._room.set()

    def cancel(self) -> None:
        """Stop listening."""
        self._cancelled, self._untaken = True, []
        self._room.set()
        self._task.cancel()

    async def _pump(self) -> None:
        try:
            listening = self._listen(self._fresh)
            with telemetry.under(self._session.traceparent):
                async with listening as feed:
                    self._feed.set_result(feed)
                    while True:
                        await self._hand_on(feed)
        except ProviderFailure as failure:
            self._fail(failure)

    async def _hand_on(self, feed: ProviderFeed) -> None:
        events = await feed.next()
        seen = self._inputs.seen(events, self.provider_session_id)
        self._untaken.append(seen)
        self._waiting += len(events)
        self._bytes += sum(len(event.raw) for event in events)
        self._signal(seen)
        while self._waiting >= MAX_WAITING or self._bytes >= MAX_BYTES:
            self._room.clear()
            await self._room.wait()

    def _count(self) -> None:
        waiting = [event for seen in self._untaken for event in seen.events]
        self._waiting, self._bytes = len(waiting), sum(len(event.raw) for event in waiting)

    def _fail(self, failure: ProviderFailure) -> None:
        if self._feed.done():
            self._feed = asyncio.get_running_loop().create_future()
        self._feed.set_exception(failure)
        self._ended = True
        self._feed.exception()  # read here, so that nobody asking is no error
        self._untold = failure
        self.tell()

    def tell(self) -> None:
        """Signal a failure that nobody has heard of: the open turn hangs on a feed that will say nothing more."""
        failure, turn_id = self._untold, self._session.state.open_turn
        if failure is None or turn_id is None or self._session.sending(turn_id):
            return
        self._untold = None
        self._signal(self._inputs.failed(turn_id, failure, self.provider_session_id))
