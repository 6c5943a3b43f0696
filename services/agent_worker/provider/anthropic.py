"""The Provider port on the Managed Agents API, through the official SDK.

The SDK makes the requests (auth, headers, typed errors, spans), those of messages and lists once for many
(`calls.py`); streams and lists are read raw, because the archive keeps the provider's JSON as it came. It retries
nothing for us: its retries repeat POSTs that may have landed, and it sleeps for as long as `Retry-After` says,
hours included.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any
from weakref import WeakValueDictionary

from anthropic import AsyncAnthropic

from services.agent_worker.governor.governor import Governor, in_lane
from services.agent_worker.governor.supply import BACKGROUND, URGENT
from services.agent_worker.ports import Profiles, ProviderFailure, ProviderFeed, ProviderSession
from services.agent_worker.provider.client import CountingClient
from services.agent_worker.provider.feed import SessionFeed
from services.agent_worker.provider.opening import Openings, close_session, set_budget
from services.agent_worker.provider.room import Room
from services.agent_worker.provider.send import give_answer, interrupt, send_message
from services.agent_worker.provider.sweep import ProviderMarkedSessions
from shared.clock import Clock
from shared.moment import rfc3339
from shared.session.inputs import ToolAnswered, ToolConfirmed
from shared.session.state import SessionState


def connect(
    *,
    api_key: str | None,
    base_url: str | None,
    sessions: int,
    governor: Governor | None = None,
) -> AsyncAnthropic:
    """A client for up to `sessions` sessions at once: each holds a stream and makes a request now and then, when
    the governor lets it."""
    return AsyncAnthropic(
        api_key=api_key,
        base_url=base_url,
        max_retries=0,
        timeout=30.0,
        http_client=CountingClient(sessions=sessions, governor=governor),
    )


class AnthropicProvider:
    """See Provider."""

    def __init__(
        self,
        client: AsyncAnthropic,
        openings: Openings,
        profiles: Profiles,
        *,
        clock: Clock,
        chance: Callable[[], float],
    ) -> None:
        self._client = client
        self.marked_sessions = ProviderMarkedSessions(client)
        self._openings = openings
        self._profiles = profiles
        self._clock = clock
        self._chance = chance
        self._room = Room()
        self._answering: WeakValueDictionary[str, asyncio.Lock] = WeakValueDictionary()

    async def open(self, state: SessionState, *, look: bool) -> ProviderSession:
        """See Provider.open."""
        return await self._openings.open(state, look=look)

    async def send(self, state: SessionState, content: Any, *, look: bool) -> None:
        """See Provider.send."""
        await send_message(self._client, self._profiles, state, content, look=look)

    async def interrupt(self, state: SessionState) -> None:
        """See Provider.interrupt."""
        with in_lane(URGENT):
            await interrupt(self._client, state)

    async def answer(self, state: SessionState, request: ToolConfirmed | ToolAnswered) -> None:
        """See Provider.answer."""
        # One at a time in a session: two that look at once find nothing, and both would be given.
        turn = self._answering.setdefault(state.provider_session_id or "", asyncio.Lock())
        async with turn:
            with in_lane(URGENT):
                await give_answer(self._client, state, request)

    async def set_budget(self, provider_session_id: str, cents: int) -> None:
        """See Provider.set_budget."""
        with in_lane(URGENT):
            await set_budget(self._client, provider_session_id, cents)

    async def close(self, provider_session_id: str, *, erase: bool) -> None:
        """See Provider.close."""
        with in_lane(BACKGROUND):
            try:
                await close_session(self._client, provider_session_id, erase=erase)
            except ProviderFailure as refused:
                # 400 while it runs: its status lags behind its events, so it is worth another try.
                refused.final = False
                raise

    @asynccontextmanager
    async def watch(
        self, state: SessionState, *, fresh: bool, on_preview: Callable[[bytes], None]
    ) -> AsyncIterator[ProviderFeed]:
        """See Provider.watch."""
        feed = SessionFeed(
            self._client,
            state,
            fresh=fresh,
            now=lambda: rfc3339(self._clock()),
            chance=self._chance,
            on_preview=on_preview,
            room=self._room,
        )
        try:
            yield feed
        finally:
            await feed.close()
