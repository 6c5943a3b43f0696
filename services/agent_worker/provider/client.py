"""The provider's HTTP client: it asks the governor and the lease before each call, counts it and measures it."""

from __future__ import annotations

import time
from typing import Any

import httpx2
from anthropic import AnthropicError, DefaultAsyncHttpxClient

from services.agent_worker import leases
from services.agent_worker.governor import governor
from services.agent_worker.governor.governor import Governor
from services.agent_worker.governor.pacer import Held
from services.agent_worker.governor.supply import BACKGROUND, CREATE, LIST, RECONNECT, SEND
from services.agent_worker.provider.failures import retry_after
from services.agent_worker.provider.wire import Wire
from shared import metrics
from shared.errors import Fenced

# By the operations of `client`; those that are not here can wait.
LANES = {
    "sessions.create": CREATE,
    "agents.create": CREATE,
    "environments.create": CREATE,
    "events.stream": RECONNECT,
    "threads.events.stream": RECONNECT,
    "events.send": SEND,
    "messages.create": SEND,
    "agents.update": SEND,
    "events.list": LIST,
    "threads.events.list": LIST,
    "sessions.list": LIST,
    "sessions.retrieve": LIST,
    "agents.list": LIST,
    "environments.list": LIST,
    "agents.retrieve": LIST,
    "environments.retrieve": LIST,
    "vaults.retrieve": LIST,
    "files.retrieve": LIST,
    "memory_stores.retrieve": LIST,
    "messages.count_tokens": LIST,
    "models.retrieve": LIST,
}


def lane_of(operation: str) -> str:
    """The lane; what makes something counts against a limit of its own whoever asks for it."""
    usual = LANES.get(operation, BACKGROUND)
    return usual if usual == CREATE else governor.lane_or(usual)


# By method and the words of the path, ids left out: the calls that the drivers make.
OPERATIONS = {
    "POST sessions": "sessions.create",
    "GET sessions": "sessions.list",
    "GET sessions/*": "sessions.retrieve",
    "POST sessions/*": "sessions.update",
    "DELETE sessions/*": "sessions.delete",
    "POST sessions/*/archive": "sessions.archive",
    "POST sessions/*/events": "events.send",
    "GET sessions/*/events": "events.list",
    "GET sessions/*/events/stream": "events.stream",
    "GET sessions/*/threads/*/events": "threads.events.list",
    "GET sessions/*/threads/*/stream": "threads.events.stream",
    "GET agents": "agents.list",
    "POST agents": "agents.create",
    "POST agents/*": "agents.update",
    "GET agents/*": "agents.retrieve",
    "GET environments": "environments.list",
    "GET environments/*": "environments.retrieve",
    "GET vaults/*": "vaults.retrieve",
    "GET files": "files.list",
    "GET files/*": "files.retrieve",
    "GET memory_stores/*": "memory_stores.retrieve",
    "POST environments": "environments.create",
    "POST messages": "messages.create",
    "POST messages/*": "messages.count_tokens",
    "GET models/*": "models.retrieve",
}


# Among a request's extensions: nothing is to be added to it, and its answer is read whole.
WHOLE = "turnstile.whole"


class LeaseOver(Fenced, AnthropicError):
    """The request was not made. An error of the SDK's own kind, since it takes others for a broken connection."""


class NotAsked(AnthropicError):
    """The request was not made, because our own code failed: of the SDK's own kind for the same reason."""


class CountingClient(DefaultAsyncHttpxClient):
    """The client that the SDK would make itself, measuring each request up to the end of its answer.

    Of a stream only the beginning is waited for. A request that was cancelled has no outcome and is not counted.
    With a governor each request waits for its turn; one that may not go is answered 429 here, which says truly that
    it did not land, and is not counted. One that would change something without a lease raises LeaseOver instead.
    """

    def __init__(
        self, *, sessions: int = 1, governor: Governor | None = None, **options: Any
    ) -> None:
        """For up to `sessions` sessions at once: each has a stream and mostly one more of a child, and asks for
        something now and then."""
        options.setdefault("transport", Wire(3 * (sessions + 50), _require_lease))
        super().__init__(**options)
        self._governor = governor

    async def send(self, request: httpx2.Request, **options: Any) -> httpx2.Response:
        """See httpx2.AsyncClient.send."""
        if self._governor is None:
            return await self._send(request, options)
        lane = lane_of(operation_of(request.method, request.url.path))
        try:
            held = await self._governor.admit(lane, governor.tenant())
        except Exception as error:
            raise NotAsked(f"{request.method} {request.url.path}: {error!r}") from error
        if held is not None:
            return _not_now(request, lane, held)
        response = await self._send(request, options)
        if response.status_code == 429:
            self._governor.refused(lane, retry_after(response.headers))
        return response

    async def _send(self, request: httpx2.Request, options: dict[str, Any]) -> httpx2.Response:
        if request.method != "GET":
            _require_lease(request)
        began = time.perf_counter()
        try:
            response = await self._answer(request, options)
        except httpx2.TimeoutException:
            _count(request, "timeout", began)
            raise
        except httpx2.HTTPError:
            _count(request, "unreachable", began)
            raise
        failed = response.status_code >= 400
        _count(request, f"http_{response.status_code}" if failed else "ok", began)
        return response

    async def _answer(self, request: httpx2.Request, options: Any) -> httpx2.Response:
        """What is said to the request. One that is WHOLE is put to the transport at once: httpx would look for
        hooks, cookies and challenges, of which there are none, and at redirects, which it follows as before."""
        if WHOLE not in request.extensions:
            return await super().send(request, **options)
        response = await self._transport_for_url(request.url).handle_async_request(request)
        response.request = request
        try:
            await response.aread()
        except BaseException:
            await response.aclose()
            raise
        return await super().send(request, **options) if _elsewhere(response) else response


def _elsewhere(answer: httpx2.Response) -> bool:
    """Whether nothing was done and the same is to be asked in another place."""
    looked = answer.is_redirect and answer.request.method == "GET"
    return looked or answer.status_code in (307, 308)


def _require_lease(request: httpx2.Request) -> None:
    """Raises LeaseOver. Asked once more when the request is about to leave: a process that stood still while it
    connected would send what the next driver has sent already."""
    if not leases.may_go():
        raise LeaseOver(f"{request.method} {request.url.path}: the lease ran out")


def _not_now(request: httpx2.Request, lane: str, held: Held) -> httpx2.Response:
    words = f"held back by Turnstile's own rate governor (lane {lane}: {held})"
    return httpx2.Response(
        429,
        headers={"retry-after": f"{held.retry_after:.1f}", "x-should-retry": "false"},
        json={"type": "error", "error": {"type": "rate_governed", "message": words}},
        request=request,
    )


def _count(request: httpx2.Request, outcome: str, began: float) -> None:
    operation = operation_of(request.method, request.url.path)
    metrics.inc("turnstile_provider_requests_total", operation=operation, outcome=outcome)
    seconds = time.perf_counter() - began
    metrics.observe("turnstile_provider_request_seconds", seconds, operation=operation)


def operation_of(method: str, path: str) -> str:
    """What is asked, in the SDK's words; `other` for a call that the drivers do not make."""
    words = path.partition("/v1/")[2].split("/")
    ids = (1, 3) if "threads" in words else (1,)
    words = ["*" if place in ids else word for place, word in enumerate(words)]
    return OPERATIONS.get(f"{method} {'/'.join(words)}", "other")
