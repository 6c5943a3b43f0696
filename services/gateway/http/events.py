"""The events of a session: as a stream that never misses one, or as pages of JSON."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Annotated

from fastapi import Header, Query
from starlette.requests import Request
from starlette.responses import Response

from services.gateway.follow import Follower, Item
from services.gateway.history import History
from services.gateway.http.problems import JSON
from services.gateway.http.sessions import require_kept, require_session, session_key
from services.gateway.http.sse import COMMENT, Stream, message
from services.gateway.live import Live, Preview
from services.gateway.ports import Entry, ReadModel, SessionKey
from shared import logs, metrics
from shared.errors import Rejected, Transient

MAX_SEQ = 2**53
Seq = Annotated[int, Query(ge=0, le=MAX_SEQ, description="Start after this seq")]
PageSize = Annotated[int, Query(ge=1, le=1000, description="Events per page (JSON only)")]
_log = logs.get("gateway.events")


def events_endpoint(
    read_model: ReadModel,
    history: History,
    live: Live,
    closing: asyncio.Event,
) -> Callable[..., Awaitable[Response]]:
    """GET /v1/sessions/{session_id}/events."""

    async def get_events(
        request: Request,
        after: Seq = 0,
        previews: bool = False,
        limit: PageSize = 100,
        last_event_id: Annotated[str | None, Header()] = None,
    ) -> Response:
        key = session_key(request)
        require_kept(await require_session(read_model, key))
        last = _last_seen(last_event_id, after)
        if _wants_json(request.headers.get("accept", "")):
            return await _page(history, key, last, limit)
        follower = Follower.start(key, last, previews, history, live)
        try:
            first = await _first(follower)
        except BaseException:
            follower.close()
            raise
        return Stream(_chunks(follower, first), closing)

    return get_events


def _last_seen(header: str | None, after: int) -> int:
    """Where the client stands: Last-Event-ID, which a browser sends by itself, or `after`."""
    if not header:
        return after
    if not (header.isascii() and header.isdigit()) or int(header) > MAX_SEQ:
        raise Rejected("invalid_request", "must be the `id:` of an event", field="Last-Event-ID")
    return int(header)


def _wants_json(accept: str) -> bool:
    kinds = [part.split(";")[0].strip().lower() for part in accept.split(",")]
    return "application/json" in kinds and "text/event-stream" not in kinds


async def _page(history: History, key: SessionKey, after: int, limit: int) -> Response:
    until = min(after + limit, await history.newest(key))
    entries = [entry async for entry in history.read(key, after, until)] if until > after else []
    last = entries[-1].seq if entries else after
    content = b'{"data":[%b],"next_after":%d}' % (b",".join(e.value for e in entries), last)
    return Response(content, media_type=JSON)


async def _first(follower: Follower) -> tuple[Item | None, AsyncIterator[Item]]:
    """The first event when history has one, so that a history that can't be read is a 503 and not a
    stream that ends; None when there is nothing to send yet."""
    items = follower.items()
    newest = await follower.history.newest(follower.key)
    return (await anext(items) if newest > follower.last else None), items


async def _chunks(
    follower: Follower, start: tuple[Item | None, AsyncIterator[Item]]
) -> AsyncIterator[bytes]:
    first, items = start
    try:
        yield b": open\n\n" if first is None else _chunk(first)
        async for item in items:
            yield _chunk(item)
    except Transient as error:
        # The client reconnects by itself and is then told what is wrong.
        _log.warning("a stream ends early", session_id=follower.key[1], reason=error.reason)
        yield b": %b\n\n" % error.reason.encode()
    finally:
        follower.close()


def _chunk(item: Item) -> bytes:
    if isinstance(item, Entry):
        metrics.inc("turnstile_sse_events_total", kind="event")
        return message(item.type, item.value, item.seq)
    if isinstance(item, Preview):
        metrics.inc("turnstile_sse_events_total", kind="preview")
        return message(item.type, item.value)
    return COMMENT
