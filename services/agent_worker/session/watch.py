"""One session's feed, pumped into its shell: what the provider says becomes signals, many to a write."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from services.agent_worker.ports import Feed, ProviderFailure
from services.agent_worker.session.perform import Driven, failed
from shared import telemetry
from shared.session.inputs import Input, Seen

# Events that may wait for one session's shell, and their bytes; beyond either the stream is not read on, and TCP
# holds the provider.
MAX_WAITING = 2_000
MAX_BYTES = 64 * 1024


class Watch:
    """Listens to the provider session that `driven` is bound to at the time of making.

    Every batch goes to `signal` as Seen. A feed that fails for good is reported once: to whoever waits for it in
    `feed`, or to `signal` as Failed when a turn is open and nobody asks.
    """

    def __init__(
        self, driven: Driven, opening: float, signal: Callable[[Input], None], *, fresh: bool
    ) -> None:
        self.session = driven.state.provider_session_id
        self._driven = driven
        self._opening = opening
        self._signal = signal
        self._waiting = self._bytes = 0
        self._untold: ProviderFailure | None = None
        self._room = asyncio.Event()
        self._feed: asyncio.Future[Feed] = asyncio.get_running_loop().create_future()
        self._task = asyncio.create_task(self._pump(fresh))

    async def feed(self) -> Feed:
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

    def taken(self) -> None:
        """All that was signalled has been decided on."""
        self._waiting = self._bytes = 0
        self._room.set()

    def cancel(self) -> asyncio.Task[None]:
        """Stop listening; returns the task that ends with it."""
        self._task.cancel()
        return self._task

    async def _pump(self, fresh: bool) -> None:
        driven = self._driven
        try:
            watching = driven.provider.watch(driven.state, fresh=fresh, on_preview=self._preview)
            with telemetry.under(driven.traceparent):
                async with watching as feed:
                    self._feed.set_result(feed)
                    while True:
                        await self._hand_on(feed)
        except ProviderFailure as failure:
            self._fail(failure)
        except Exception as error:
            # A turn without a feed would hang for ever: the next driver begins afresh.
            driven.fail(error)

    async def _hand_on(self, feed: Feed) -> None:
        events = await feed.next()
        driven = self._driven
        self._waiting += len(events)
        self._bytes += sum(len(event.raw) for event in events)
        self._room.clear()
        self._signal(Seen(events=events, at=driven.now(), chance=driven.chance()))
        if self._waiting >= MAX_WAITING or self._bytes >= MAX_BYTES:
            await self._room.wait()

    def _preview(self, raw: bytes) -> None:
        state = self._driven.state
        self._driven.publisher.preview(state, raw, state.open_turn)

    def _fail(self, failure: ProviderFailure) -> None:
        if self._feed.done():
            self._feed = asyncio.get_running_loop().create_future()
        self._feed.set_exception(failure)
        self._feed.exception()  # read here, so that nobody asking is no error
        self._untold = failure
        self.tell()

    def tell(self) -> None:
        """Signal a failure that nobody has heard of: the open turn hangs on a feed that will say nothing more."""
        driven, failure = self._driven, self._untold
        turn_id = driven.state.open_turn
        if failure is None or turn_id is None or driven.sending(turn_id):
            return
        self._untold = None
        self._signal(failed(turn_id, failure, driven))
