"""A session's or a child thread's event stream, opened raw and opened again whenever it ends."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from datetime import datetime
from typing import Any

import httpx2
import msgspec
from anthropic import AsyncAnthropic
from msgspec import Raw, Struct

from services.agent_worker.ports import ProviderFailure
from services.agent_worker.provider import calls
from services.agent_worker.provider.failures import WIRE_ERRORS
from shared import metrics

# A record beyond this is no event of the API (bodies are limited to 32 MB).
MAX_RECORD = 64 * 1024 * 1024


async def records(chunks: AsyncIterator[bytes]) -> AsyncIterator[bytes]:
    """The data of each record. Raises ProviderFailure on an error record and on one that has no end."""
    rest = bytearray()
    async for chunk in chunks:
        # Only what is new is looked through: a record of many megabytes comes in thousands of chunks. Of what was
        # there only what may be half a line end.
        seen = max(0, len(rest) - 3)
        rest += chunk
        if b"\r" in rest[seen:]:
            rest = rest.replace(b"\r\n", b"\n")
            seen = 0
        if (end := rest.rfind(b"\n\n", seen)) >= 0:
            whole = bytes(rest[:end]).split(b"\n\n")
            del rest[: end + 2]
            for record in whole:
                data = _data(record)
                if data:
                    yield data
        if len(rest) > MAX_RECORD:
            raise ProviderFailure("stream_error", "a record of the event stream has no end")


def _data(record: bytes) -> bytes:
    """The record's data; empty for comments and pings."""
    if record.startswith(b"event: message\ndata: ") and record.count(b"\n") == 1:
        return record[21:]
    name, data = b"", list[bytes]()
    for line in record.split(b"\n"):
        key, _, value = line.partition(b":")
        value = value.removeprefix(b" ")
        if key == b"event":
            name = value
        elif key == b"data":
            data.append(value)
    if name == b"error":
        raise _error(b"\n".join(data))
    return b"" if name == b"ping" else b"\n".join(data)


def _error(data: bytes) -> ProviderFailure:
    try:
        body = msgspec.json.decode(data)
        reason = str(body["error"]["type"])
    except (msgspec.DecodeError, KeyError, TypeError):
        reason = "stream_error"
    return ProviderFailure(reason, "the provider ended the event stream with an error")


# Events of a page. Mostly nothing or little was missed, and a glance shows it, however long the list is.
GLANCE, PAGE = 48, 200


class Page(Struct):
    """One page of a list; `next_page` is opaque, None on the last."""

    data: list[Raw] = []
    next_page: str | None = None


_page = msgspec.json.Decoder(Page)


async def _pages(ask: Callable[[str], Awaitable[bytes]]) -> AsyncIterator[list[bytes]]:
    """All pages; `ask` is given the mark of the next one, "" for the first."""
    mark = ""
    while True:
        page = _page.decode(await ask(mark))
        yield [bytes(raw) for raw in page.data]
        if not page.next_page:
            return
        mark = page.next_page


def _asked(method: Any, **first: Any) -> Callable[[str], Awaitable[bytes]]:
    """Pages by a method of the SDK's with these arguments."""

    async def ask(mark: str) -> bytes:
        response = await method(**first, **({"page": mark} if mark else {}))
        content: bytes = await response.read()
        return content

    return ask


def sessions_since(client: AsyncAnthropic, since: datetime) -> AsyncIterator[list[bytes]]:
    """Pages of the sessions made since then, newest first, archived ones left out."""
    method = client.beta.sessions.with_raw_response.list
    return _pages(_asked(method, created_at_gte=since, limit=100))


def newest_first(
    client: AsyncAnthropic, session: str, *, types: list[str] | None = None, limit: int = PAGE
) -> AsyncIterator[list[bytes]]:
    """Pages of a session's primary events, newest first; events still queued come before all others."""
    about = calls.Page(limit, tuple(types or ()))
    return _pages(lambda mark: calls.newest(client, session, about._replace(page=mark)))


def of_thread(client: AsyncAnthropic, session: str, thread: str) -> AsyncIterator[list[bytes]]:
    """Pages of a child thread's events, oldest first: the API knows no other order here."""
    method = client.beta.sessions.threads.events.with_raw_response.list
    return _pages(_asked(method, thread_id=thread, session_id=session, limit=1000))


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
    returns what an error of the wire means.

    Raises ProviderFailure when the stream can't be had for a reason that will not pass.
    """
    # A loop of its own (see shared.retry): every end is tried again, and a record makes the next wait short.
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
