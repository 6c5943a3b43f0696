"""Lists of the provider, read raw: each event as the bytes it came in."""

from __future__ import annotations

from collections.abc import AsyncIterator
from datetime import datetime
from typing import Any

import msgspec
from anthropic import AsyncAnthropic
from msgspec import Raw, Struct

# Events of a page. Mostly nothing or little was missed, and a glance shows it, however long the list is.
GLANCE, PAGE = 48, 200


class Page(Struct):
    """One page of a list; `next_page` is opaque, None on the last."""

    data: list[Raw] = []
    next_page: str | None = None


_page = msgspec.json.Decoder(Page)


async def _pages(ask: Any, first: dict[str, Any]) -> AsyncIterator[list[bytes]]:
    arguments = first
    while True:
        response = await ask(**arguments)
        page = _page.decode(await response.read())
        yield [bytes(raw) for raw in page.data]
        if not page.next_page:
            return
        arguments = {**first, "page": page.next_page}


def sessions_since(client: AsyncAnthropic, since: datetime) -> AsyncIterator[list[bytes]]:
    """Pages of the sessions made since then, newest first, archived ones left out."""
    ask = client.beta.sessions.with_raw_response.list
    return _pages(ask, {"created_at_gte": since, "limit": 100})


def newest_first(
    client: AsyncAnthropic, session: str, *, types: list[str] | None = None, limit: int = PAGE
) -> AsyncIterator[list[bytes]]:
    """Pages of a session's primary events, newest first; events still queued come before all others."""
    arguments: dict[str, Any] = {"session_id": session, "order": "desc", "limit": limit}
    if types is not None:
        arguments["types"] = types
    return _pages(client.beta.sessions.events.with_raw_response.list, arguments)


def of_thread(client: AsyncAnthropic, session: str, thread: str) -> AsyncIterator[list[bytes]]:
    """Pages of a child thread's events, oldest first: the API knows no other order here."""
    ask = client.beta.sessions.threads.events.with_raw_response.list
    return _pages(ask, {"thread_id": thread, "session_id": session, "limit": 1000})
