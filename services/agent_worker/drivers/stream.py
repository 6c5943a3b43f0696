"""A session's or a child thread's event stream, opened raw and opened again whenever it ends."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any

import httpx2
from anthropic import AsyncAnthropic

from services.agent_worker.drivers.failures import WIRE_ERRORS
from services.agent_worker.drivers.sse import records
from services.agent_worker.ports import ProviderFailure
from shared import metrics

# Keep-alives were seen every 28 s; twice that and a half is silence.
SILENCE = 70.0
TIMEOUT = httpx2.Timeout(10.0, read=SILENCE)
FIRST_WAIT, LONGEST_WAIT = 0.1, 5.0
PREVIEWS: list[Any] = ["agent.message", "agent.thinking"]


@asynccontextmanager
async def primary(client: AsyncAnthropic, session: str) -> AsyncIterator[AsyncIterator[bytes]]:
    """The session's own stream, with token deltas."""
    streams = client.beta.sessions.events.with_streaming_response
    opening = streams.stream(session, event_deltas=PREVIEWS, timeout=TIMEOUT)
    async with opening as response:
        yield records(response.iter_bytes())


@asynccontextmanager
async def child(
    client: AsyncAnthropic, session: str, thread: str
) -> AsyncIterator[AsyncIterator[bytes]]:
    """A child thread's stream, without deltas."""
    streams = client.beta.sessions.threads.events.with_streaming_response
    async with streams.stream(thread, session_id=session, timeout=TIMEOUT) as response:
        yield records(response.iter_bytes())


async def follow(
    opening: Callable[[], Any],
    *,
    opened: Callable[[], Awaitable[None]],
    take: Callable[[bytes], Awaitable[None]],
    ended: Callable[[], None],
    failed: Callable[[BaseException], Awaitable[ProviderFailure]],
    chance: Callable[[], float],
) -> None:
    """Hand every record to `take`, for ever; `opened` runs after each opening, `ended` after each end. `failed`
    tells what an error of the wire means.

    Raises ProviderFailure when the stream can't be had for a reason that will not pass.
    """
    wait = FIRST_WAIT
    while True:
        try:
            async with opening() as stream:
                await opened()
                async for raw in stream:
                    wait = FIRST_WAIT
                    await take(raw)
        except ProviderFailure as told:
            _raise_if_final(told)  # else an error record: what it was about is in the list
        except WIRE_ERRORS as error:
            _raise_if_final(await failed(error))
        ended()
        metrics.inc("turnstile_provider_streams_cut_total")
        await asyncio.sleep(wait * (0.5 + chance() / 2))
        wait = min(wait * 2, LONGEST_WAIT)


def _raise_if_final(failed: ProviderFailure) -> None:
    if failed.lost or failed.final:
        raise failed
