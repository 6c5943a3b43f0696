"""The events of a session: as a stream that never misses one, or as pages of JSON.

A stream is 200 at once, also while a part is away: a browser gives up for good on any other status. What can't be
known then (no such session, a cursor ahead) is sent as `event: error` once the parts are back.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from dataclasses import dataclass
from typing import Annotated

from fastapi import Header, Query
from starlette.requests import Request
from starlette.responses import Response

from services.gateway.event_stream import COMMENT, END, RETRY, message
from services.gateway.http.auth import caller_of
from services.gateway.http.problems import JSON, problem_json
from services.gateway.http.sessions import require_kept, require_session, session_key
from services.gateway.http.sse import Shares, Stream
from services.gateway.ports import Entry, ReadModel, Stretch
from services.gateway.streams.follow import End, Follower, Item
from services.gateway.streams.history import History
from services.gateway.streams.live import Live, Preview
from shared import logs, metrics
from shared.errors import Rejected, Transient
from shared.session.key import SessionKey

MAX_SEQ = 2**53
SEQ = "^[0-9]{0,15}$"
# A page of JSON ends with the event that brings it to so many bytes.
PAGE_BYTES = 8 * 1024 * 1024
# So many pages of JSON are put together at once; others wait, so that memory does not grow with requests.
PAGES_AT_ONCE = 4
# A stream that can't begin within so many seconds begins with comments.
BEGIN_SECONDS, AGAIN_SECONDS = 1.0, 1.0
Seq = Annotated[int, Query(ge=0, le=MAX_SEQ, description="Start after this seq")]
Previews = Annotated[bool, Query(description="Token deltas too (streams only)")]
LastEventId = Annotated[
    str | None,
    Header(
        alias="Last-Event-ID",
        description="Where the client stands; wins over `after`",
        json_schema_extra={"pattern": SEQ},
    ),
]
PageSize = Annotated[int, Query(ge=1, le=1000, description="Events per page (JSON only)")]
_log = logs.get("gateway.events")


def events_endpoint(
    read_model: ReadModel,
    history: History,
    live: Live,
    shares: Shares,
    closing: asyncio.Event,
) -> Callable[..., Awaitable[Response]]:
    """The endpoint GET /v1/sessions/{session_id}/events."""
    pages = asyncio.Semaphore(PAGES_AT_ONCE)

    async def get_events(
        request: Request,
        after: Seq = 0,
        previews: Previews = False,
        limit: PageSize = 100,
        last_event_id: LastEventId = None,
    ) -> Response:
        """A page of JSON, or a stream after Last-Event-ID or `after`; 204 when a closed session has nothing after
        that. Raises Rejected or Transient."""
        key = session_key(request)
        last = last_seen(last_event_id, after)
        if _wants_json(request.headers.get("accept", "")):
            async with pages:
                return await _page(read_model, history, key, last, limit)
        place = shares.take(caller_of(request.scope))
        follower = Follower.start(key, last, previews, history, live)
        opening = Opening(read_model, follower)
        try:
            begun = await opening.soon(BEGIN_SECONDS)
            if begun and begun.over:
                opening.close()
                place.give_back()
                return Response(status_code=204)
        except BaseException:
            opening.close()
            place.give_back()
            raise
        return Stream(_chunks(opening, begun), closing, place)

    return get_events


def last_seen(header: str | None, after: int) -> int:
    """Where the client stands: Last-Event-ID, which a browser sends by itself, or `after`."""
    if not header:
        return after
    digits = header.isascii() and header.isdigit() and len(header) <= len(str(MAX_SEQ))
    if not digits or int(header) > MAX_SEQ:
        raise Rejected("invalid_request", "must be the `id:` of an event", field="Last-Event-ID")
    return int(header)


def _wants_json(accept: str) -> bool:
    kinds = [part.split(";")[0].strip().lower() for part in accept.split(",")]
    return "application/json" in kinds and "text/event-stream" not in kinds


async def _page(
    read_model: ReadModel, history: History, key: SessionKey, after: int, limit: int
) -> Response:
    """Events after `after`: `limit` of them, fewer when they reach PAGE_BYTES; at least one if there is one."""
    require_kept(await require_session(read_model, key))
    newest = await history.confirmed(key, after)
    values, size, last = list[bytes](), 0, after
    if newest > after:
        entries = history.read(key, after, min(after + limit, newest), ahead=False)
        async for entry in entries:
            values.append(entry.value)
            size, last = size + len(entry.value), entry.seq
            if size >= PAGE_BYTES:
                break
        await entries.aclose()
    content = b'{"data":[%b],"next_after":%d}' % (b",".join(values), last)
    return Response(content, media_type=JSON)


@dataclass(frozen=True, slots=True)
class Begun:
    """How a stream begins: `over` when its session is closed and the client has all of it, else the first events,
    if there are any, and the rest."""

    over: bool
    first: Sequence[Item] = ()
    items: AsyncIterator[Sequence[Item]] | None = None


class Opening:
    """The beginning of a stream, tried until the parts that it needs are there."""

    def __init__(self, read_model: ReadModel, follower: Follower) -> None:
        self.follower = follower
        self._read_model = read_model
        self._trying: asyncio.Task[Begun] | None = None

    async def soon(self, seconds: float) -> Begun | None:
        """The beginning; None when a part did not answer within `seconds`. Raises Rejected."""
        if self._trying is None:
            self._trying = asyncio.create_task(self._begin())
        await asyncio.wait({self._trying}, timeout=seconds)
        if not self._trying.done():
            return None
        trying, self._trying = self._trying, None
        try:
            return trying.result()
        except Transient as error:
            _log.info("stream_waits", session_id=self.follower.key[1], reason=error.reason)
            return None

    def close(self) -> None:
        """Leave the live feed; nothing is tried any more."""
        if self._trying is not None:
            self._trying.cancel()
        self.follower.close()

    async def _begin(self) -> Begun:
        follower = self.follower
        page = await require_session(self._read_model, follower.key)
        closed = page.view.closed
        if closed and page.view.open_turn is None and follower.last >= page.view.last_seq:
            newest = await follower.history.newest(follower.key)
            if follower.last == newest or page.view.status == "erased":
                return Begun(over=True)
        require_kept(page)
        newest = await follower.history.confirmed(follower.key, follower.last)
        follower.closed = closed
        items = follower.items()
        # The first event is read before the status is sent: a history that can't be read is no beginning.
        return Begun(False, await anext(items) if newest > follower.last else (), items)


async def _chunks(opening: Opening, begun: Begun | None) -> AsyncIterator[bytes]:
    try:
        yield RETRY
        # A loop of its own (see shared.retry): the client hears of each try.
        while begun is None:
            yield COMMENT
            await asyncio.sleep(AGAIN_SECONDS)
            begun = await opening.soon(BEGIN_SECONDS)
        if begun.items is None:
            yield END
            return
        yield _together(begun.first) or b": open\n\n"
        async for items in begun.items:
            yield _together(items)
    except Rejected as error:
        yield message("error", problem_json(error))
    except Transient as error:
        # The client reconnects by itself, and waits with comments then.
        _log.warning("stream_ends_early", session_id=opening.follower.key[1], reason=error.reason)
        yield b": %b\n\n" % error.reason.encode()
    finally:
        opening.close()


def _together(items: Sequence[Item]) -> bytes:
    return b"".join(map(_record, items))


def _record(item: Item) -> bytes:
    if isinstance(item, Entry | Stretch):
        metrics.inc("turnstile_sse_events_total", item.count, kind="event")
        return item.record
    if isinstance(item, Preview):
        metrics.inc("turnstile_sse_events_total", kind="preview")
        return item.record
    return END if isinstance(item, End) else COMMENT
