"""The two calls that turns are made of, posting events to a session and listing its events: the SDK's own requests,
made once for a client and not once for each call, since the making costs several times as much as the sending.

Where a trace is kept, a call has the span that the SDK would make of it.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from contextlib import AbstractContextManager, nullcontext
from functools import lru_cache
from typing import Any, NamedTuple
from urllib.parse import quote
from weakref import WeakKeyDictionary

import anthropic
import httpx2
import msgspec
from anthropic import AsyncAnthropic

from services.agent_worker.provider.client import WHOLE
from shared import telemetry
from shared.trace_context import parted

SEND_TIMEOUT = 30.0
SOME_SESSION = "SESSION"
# Sessions whose URL is kept.
TARGETS = 4_096
# Headers of one request only.
ITS_OWN = (b"content-length", b"traceparent", b"tracestate")
ROUTE = "/v1/sessions/{session_id}/events"
# Attributes of a call's span, and the headers of its answer that tell them.
TOLD = {
    "anthropic.request.id": "request-id",
    "anthropic.organization.id": "anthropic-organization-id",
    "anthropic.workspace.id": "anthropic-workspace-id",
}


class Page(NamedTuple):
    """What is asked of a session's list, newest first; of no `types`: of all."""

    limit: int
    types: tuple[str, ...] = ()
    page: str = ""


async def post(client: AsyncAnthropic, session: str, events: list[Any]) -> None:
    """One POST of events, never repeated. Raises what the SDK raises."""

    async def ask(sdk: AsyncAnthropic) -> None:
        raw = sdk.beta.sessions.events.with_raw_response
        await raw.send(session_id=SOME_SESSION, events=[], timeout=SEND_TIMEOUT)

    pattern = await _pattern(client, "send", ask)
    await _called(client, pattern, session, msgspec.json.encode({"events": events}))


async def newest(client: AsyncAnthropic, session: str, about: Page) -> bytes:
    """One page of a session's events, newest first, as JSON. Raises what the SDK raises; never repeated."""

    async def ask(sdk: AsyncAnthropic) -> None:
        arguments: dict[str, Any] = {"types": list(about.types)} if about.types else {}
        if about.page:
            arguments["page"] = about.page
        raw = sdk.beta.sessions.events.with_raw_response
        await raw.list(SOME_SESSION, order="desc", limit=about.limit, **arguments)

    # A page that is not the first has a request of its own.
    pattern = await (_made(client, ask) if about.page else _pattern(client, about, ask))
    return (await _called(client, pattern, session, None)).content


async def _called(
    client: AsyncAnthropic, pattern: _Pattern, session: str, body: bytes | None
) -> httpx2.Response:
    with _span(client, pattern, session):
        response = await _sent(client, pattern.request(session, body), pattern.options)
        if telemetry.kept():
            told = {name: response.headers.get(header) for name, header in TOLD.items()}
            telemetry.note({name: text for name, text in told.items() if text})
            telemetry.note({"http.response.status_code": response.status_code})
        if not response.is_success:
            raise client._make_status_error_from_response(response)
        return response


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


def _span(
    client: AsyncAnthropic, pattern: _Pattern, session: str
) -> AbstractContextManager[object]:
    """The span of a call that is about to be made; none where its trace is not kept."""
    if not telemetry.kept() or (tracer := client._tracer) is None:
        return nullcontext()
    return telemetry.in_place_of(
        tracer, pattern.name, pattern.attributes(session), error_type=_error_type
    )


def _error_type(error: Exception) -> str:
    if isinstance(error, anthropic.APITimeoutError):
        return "client_timeout_error"
    if isinstance(error, anthropic.APIConnectionError):
        return "connection_error"
    if isinstance(error, anthropic.APIStatusError):
        return str(error.type or error.status_code)
    return "client_error"


# ---- requests ---------------------------------------------------------------------------------------------------


class _Pattern:
    """What the SDK made of a call to SOME_SESSION. `options` are those it has requests sent with."""

    def __init__(self, made: httpx2.Request, options: dict[str, Any]) -> None:
        self.options = options
        self._method = made.method
        self._url = made.url
        self._path, self._rest = made.url.raw_path.decode().split(SOME_SESSION)
        its_own = [one for one in made.headers.raw if one[0].lower() not in ITS_OWN]
        self._headers = httpx2.Headers(its_own)
        self._extensions = {"timeout": made.extensions["timeout"], WHOLE: True}
        # To make a URL costs as much as the rest of a request.
        self._targets = lru_cache(TARGETS)(self._target)

        self.name = f"anthropic.sessions.events.{'list' if made.method == 'GET' else 'send'}"
        self._always = {
            "server.address": made.url.host,
            "server.port": made.url.port or (80 if made.url.scheme == "http" else 443),
            "gen_ai.provider.name": "anthropic",
            "http.request.method": made.method,
            "http.route": ROUTE,
            "url.scheme": made.url.scheme,
        }

    def attributes(self, session: str) -> dict[str, Any]:
        """Those that the span of the same to another session begins with."""
        target = self._targets(session).raw_path.decode()
        path, _, query = target.partition("?")
        about = {"url.query": query} if query else {}
        full = f"{self._url.scheme}://{self._url.netloc.decode()}{target}"
        return {
            **self._always,
            **about,
            "anthropic.session.id": session,
            "url.path": path,
            "url.full": full,
        }

    def _target(self, session: str) -> httpx2.URL:
        target = f"{self._path}{quote(session, safe='')}{self._rest}"
        return self._url.copy_with(raw_path=target.encode())

    def request(self, session: str, body: bytes | None) -> httpx2.Request:
        """The same to another session, with this body, in the trace that there is now."""
        named = zip(("traceparent", "tracestate"), parted(telemetry.traceparent()), strict=True)
        headers = httpx2.Headers(self._headers)
        headers.update({name: text for name, text in named if text})
        return httpx2.Request(
            self._method,
            self._targets(session),
            headers=headers,
            content=body,
            extensions=self._extensions,
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


Ask = Callable[[AsyncAnthropic], Awaitable[None]]
_patterns: WeakKeyDictionary[AsyncAnthropic, dict[object, _Pattern]] = WeakKeyDictionary()


async def _pattern(client: AsyncAnthropic, call: object, ask: Ask) -> _Pattern:
    """What `ask` has a client send, made once for each `call`."""
    known = _patterns.setdefault(client, {})
    if call not in known:
        known[call] = await _made(client, ask)
    return known[call]


async def _made(client: AsyncAnthropic, ask: Ask) -> _Pattern:
    async with _Caught() as caught:
        asked = client.with_options(
            http_client=caught, max_retries=0, open_telemetry={"traces": {"enabled": False}}
        )
        await ask(asked)
        return caught.pattern
