"""The POST of events to a session: the SDK's own request, made once for a client and not once for each message,
since the making costs several times as much as the sending.

Where a trace is kept the SDK is asked all the same: it makes a span of its call.
"""

from __future__ import annotations

from typing import Any
from urllib.parse import quote
from weakref import WeakKeyDictionary

import anthropic
import httpx2
import msgspec
from anthropic import AsyncAnthropic

from shared import telemetry
from shared.trace_context import parted

SEND_TIMEOUT = 30.0
SOME_SESSION = "SESSION"
# Headers of one request only.
ITS_OWN = (b"content-length", b"traceparent", b"tracestate")


async def post(client: AsyncAnthropic, session: str, events: list[Any]) -> None:
    """One POST of events, never repeated. Raises what the SDK raises."""
    if telemetry.kept():
        await _through_sdk(client, session, events)
        return
    if (pattern := _patterns.get(client)) is None:
        pattern = _patterns[client] = await _pattern_of(client)
    response = await _sent(client, pattern.request(session, events), pattern.options)
    if not response.is_success:
        raise client._make_status_error_from_response(response)


async def _through_sdk(client: AsyncAnthropic, session: str, events: list[Any]) -> None:
    once = client if client.max_retries == 0 else client.with_options(max_retries=0)
    raw = once.beta.sessions.events.with_raw_response
    response = await raw.send(session_id=session, events=events, timeout=SEND_TIMEOUT)
    await response.read()


async def _sent(
    client: AsyncAnthropic, request: httpx2.Request, options: dict[str, Any]
) -> httpx2.Response:
    """The answer, read. Errors of the wire are the SDK's, as if it had sent the request."""
    try:
        return await client._client.send(request, **options)
    except httpx2.TimeoutException as error:
        raise anthropic.APITimeoutError(request=request) from error
    except httpx2.HTTPError as error:
        raise anthropic.APIConnectionError(request=request) from error


class _Pattern:
    """What the SDK made of a POST to SOME_SESSION. `options` are those it has requests sent with."""

    def __init__(self, made: httpx2.Request, options: dict[str, Any]) -> None:
        self.options = options
        self._url = made.url
        self._path, self._rest = made.url.raw_path.decode().split(SOME_SESSION)
        self._headers = [one for one in made.headers.raw if one[0].lower() not in ITS_OWN]

    def request(self, session: str, events: list[Any]) -> httpx2.Request:
        """The same to another session, with these events, in the trace that there is now."""
        named = zip(("traceparent", "tracestate"), parted(telemetry.traceparent()), strict=True)
        traced = [(name.encode(), text.encode()) for name, text in named if text]
        path = f"{self._path}{quote(session, safe='')}{self._rest}"
        return httpx2.Request(
            "POST",
            self._url.copy_with(raw_path=path.encode()),
            headers=[*self._headers, *traced],
            content=msgspec.json.encode({"events": events}),
            extensions={"timeout": httpx2.Timeout(SEND_TIMEOUT).as_dict()},
        )


class _Caught(httpx2.AsyncClient):
    """Sends nothing and keeps the request."""

    pattern: _Pattern

    def __init__(self) -> None:
        super().__init__(transport=httpx2.AsyncBaseTransport())

    async def send(self, request: httpx2.Request, **options: Any) -> httpx2.Response:
        """See httpx2.AsyncClient.send."""
        self.pattern = _Pattern(request, options)
        return httpx2.Response(200, json={}, request=request)


async def _pattern_of(client: AsyncAnthropic) -> _Pattern:
    async with _Caught() as caught:
        await _through_sdk(client.with_options(http_client=caught), SOME_SESSION, [])
        return caught.pattern


_patterns: WeakKeyDictionary[AsyncAnthropic, _Pattern] = WeakKeyDictionary()
