"""Which model the child threads of a provider session ask: no event says so, the thread's own page does."""

from __future__ import annotations

import asyncio

from anthropic import AsyncAnthropic
from msgspec import Struct
from msgspec.json import Decoder

from services.agent_worker.provider.failures import WIRE_ERRORS
from shared import logs

# What a thread costs is an estimate without it: nobody waits long for that, or asks for ever.
SECONDS, TRIES = 5.0, 3
log = logs.get(__name__)


class _Model(Struct, frozen=True):
    id: str = ""


class _Agent(Struct, frozen=True):
    """An advisor names its model alone, agents its configuration."""

    model: _Model | str = ""


class _Thread(Struct):
    agent: _Agent = _Agent()


_thread = Decoder(_Thread)


class ThreadModels:
    """Asks the provider once for each thread."""

    def __init__(self, client: AsyncAnthropic, session: str) -> None:
        self._client = client
        self._session = session
        self._known: dict[str, str] = {}
        self._failed: dict[str, int] = {}

    def known(self, thread: str) -> str | None:
        """The id of the thread's model; None where the provider did not say."""
        return self._known.get(thread) or None

    async def ask(self, thread: str) -> None:
        """Find out, unless it is known or was asked for TRIES times in vain. Takes SECONDS at most."""
        if thread not in self._known and self._failed.get(thread, 0) < TRIES:
            try:
                async with asyncio.timeout(SECONDS):
                    self._known[thread] = await self._asked(thread)
            except (*WIRE_ERRORS, TimeoutError, ValueError) as error:
                self._failed[thread] = self._failed.get(thread, 0) + 1
                log.warning("thread_model_unknown", thread=thread, error=type(error).__name__)

    async def _asked(self, thread: str) -> str:
        """Raises msgspec's errors, which are ValueErrors, for what is no thread."""
        ask = self._client.beta.sessions.threads.with_raw_response.retrieve
        answer = await ask(thread, session_id=self._session)
        model = _thread.decode(await answer.read()).agent.model
        return model if isinstance(model, str) else model.id
