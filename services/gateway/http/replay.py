"""A session again, at the speed it had: what was recorded, paced by its own times. Nothing is called."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Annotated, TypeVar

from fastapi import Query
from starlette.requests import Request
from starlette.responses import Response

from services.gateway.event_stream import COMMENT, END
from services.gateway.http.auth import caller_of
from services.gateway.http.events import MAX_SEQ, LastEventId, last_seen
from services.gateway.http.sessions import require_kept, require_session, session_key
from services.gateway.http.sse import Shares, Stream
from services.gateway.ports import Entry, ReadModel, Stretch
from services.gateway.streams.follow import HEARTBEAT_SECONDS
from services.gateway.streams.history import History
from shared.errors import Rejected, Transient
from shared.moment import parse
from shared.session.key import SessionKey

CHUNK = 64 * 1024
_T = TypeVar("_T")
Sleep = Callable[[float], Awaitable[None]]
From = Annotated[int, Query(ge=1, le=MAX_SEQ, description="First event")]
To = Annotated[int | None, Query(ge=1, le=MAX_SEQ, description="Last event; the newest by default")]
Speed = Annotated[
    float, Query(ge=0, le=10_000, description="1 as recorded, 2 twice as fast, 0 without waiting")
]


def replay_endpoint(
    read_model: ReadModel, history: History, shares: Shares, closing: asyncio.Event
) -> Callable[..., Awaitable[Response]]:
    """The endpoint GET /v1/sessions/{session_id}/replay."""

    async def get_replay(
        request: Request,
        from_seq: From = 1,
        to_seq: To = None,
        speed: Speed = 1.0,
        last_event_id: LastEventId = None,
    ) -> Response:
        """A stream of events `from_seq` to `to_seq`, both included; 204 when the client that resumes has them all.
        Raises Rejected (`invalid_request`, `unknown_session`, `session_erased`) or Transient."""
        key = session_key(request)
        # A browser that connects again goes on where it was, and stops when it had all.
        resumed = last_seen(last_event_id, 0)
        require_kept(await require_session(read_model, key))
        newest = await history.reach(key, max(from_seq - 1, to_seq or 0, resumed))
        last = newest if to_seq is None else to_seq
        if resumed and resumed == last:
            return Response(status_code=204)
        from_seq = max(from_seq, resumed + 1)
        if last > newest:
            raise Rejected("invalid_request", f"must be at most {newest}", field="to_seq")
        if from_seq > last + 1:
            raise Rejected("invalid_request", f"must be at most {last}", field="from_seq")
        place = shares.take(caller_of(request.scope))
        try:
            chunks = await _started(history, key, from_seq, last, speed)
        except BaseException:
            place.give_back()
            raise
        return Stream(chunks, closing, place)

    return get_replay


async def _started(
    history: History, key: SessionKey, first: int, last: int, speed: float
) -> AsyncIterator[bytes]:
    """The stream, its first event already read: a history that can't be read is a 503."""
    if first > last:
        return at_once(_nothing())
    if not speed:
        stretches = history.stretches(key, first - 1, last)
        return at_once(_chain(await anext(stretches), stretches))
    entries = history.read(key, first - 1, last)
    return paced(_chain(await anext(entries), entries), speed, asyncio.sleep)


async def at_once(stretches: AsyncIterator[Entry | Stretch]) -> AsyncIterator[bytes]:
    """All events, then `end`. What comes one by one is sent together, CHUNK bytes at a time."""
    ready, size = list[bytes](), 0
    try:
        async for some in stretches:
            ready.append(some.record)
            size += len(ready[-1])
            if size >= CHUNK:
                yield b"".join(ready)
                ready, size = [], 0
                await asyncio.sleep(0)  # others' requests come between two chunks
    except Transient:
        yield b"".join(ready)  # a history that breaks off is told as far as it was read
        raise
    yield b"".join([*ready, END])


async def paced(entries: AsyncIterator[Entry], speed: float, sleep: Sleep) -> AsyncIterator[bytes]:
    """Each event after the recorded pause divided by `speed`, then `end`. What comes without a pause in between is
    sent together, CHUNK bytes at a time.

    Times that run backwards (late events) cost no pause; during long ones a comment is sent.
    """
    before, ready = 0.0, bytearray()
    try:
        async for entry in entries:
            at = parse(entry.at).timestamp()
            pause = (at - before) / speed if before and at > before else 0.0
            if ready and (pause or len(ready) >= CHUNK):
                yield bytes(ready)
                ready.clear()
                await asyncio.sleep(0)  # others' requests come between two chunks
            while pause > HEARTBEAT_SECONDS:
                await sleep(HEARTBEAT_SECONDS)
                pause -= HEARTBEAT_SECONDS
                yield COMMENT
            if pause:
                await sleep(pause)
            before = max(at, before)
            ready += entry.record
    except Transient:
        yield bytes(ready)  # a history that breaks off is told as far as it was read
        raise
    yield bytes(ready) + END


async def _nothing() -> AsyncIterator[Entry]:
    none: tuple[Entry, ...] = ()
    for entry in none:
        yield entry


async def _chain(head: _T, rest: AsyncIterator[_T]) -> AsyncIterator[_T]:
    yield head
    async for entry in rest:
        yield entry
