"""What happens to every request before and after its route: admitted, traced, counted, answered.

One layer of plain ASGI around the application. It also carries what is posted most, turns and new sessions,
straight to its endpoint and its answer in one piece to the connection: the framework's own layers cost as much as
everything else about accepting one.
"""

from __future__ import annotations

import time
from collections.abc import Awaitable, Callable, Mapping
from functools import cache

from prometheus_client import Counter, Histogram
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from services.gateway.http.auth import CALLER, Keys
from services.gateway.http.connection import ANSWER
from services.gateway.http.problems import JSON, answer
from services.gateway.http.request import KEYLESS, OPEN, TURNS, ClientGone, headers_of, route_of
from services.gateway.http.sse import STREAM
from shared import metrics, telemetry
from shared.span_names import http_span
from shared.telemetry import SpanKind
from shared.trace_context import joined

_METHODS = frozenset({"GET", "POST", "DELETE", "HEAD", "PUT", "PATCH", "OPTIONS"})
_JSON = (b"content-type", JSON.encode())
# An endpoint that is posted to straight: status and JSON of its answer.
Post = Callable[[Scope, Receive], Awaitable[tuple[int, bytes]]]


class Front:
    """The application inside everything but CORS; `posts` are the endpoints of routes that are posted to straight.
    `outermost`: nothing stands between this and the connection.

    Whatever is raised below becomes a problem+json answer.
    """

    def __init__(
        self, app: ASGIApp, posts: Mapping[str, Post], keys: Keys, *, outermost: bool = True
    ) -> None:
        self._app = app
        self._posts = posts
        self._keys = keys
        self._outermost = outermost

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        route = route_of(scope["path"])
        method = scope["method"] if scope["method"] in _METHODS else "OTHER"
        if route in OPEN:
            await self._app(scope, receive, send)
            return
        began = time.perf_counter()
        post = self._posts.get(route) if method == "POST" else None
        with telemetry.span(
            http_span(method, route), parent=_context(scope), kind=SpanKind.SERVER
        ) as span:
            if post is None:
                status = await self._through(route, scope, receive, send)
            else:
                status = await self._straight(post, route, scope, receive, send)
            if span.is_recording():
                span.set_attributes(_attributes(scope, method, route, status))
        requests, took = _counted(method, route, status)
        requests.inc()
        took.observe(time.perf_counter() - began)

    async def _through(self, route: str, scope: Scope, receive: Receive, send: Send) -> int:
        """Through the framework; the status of the answer, 499 where nobody waited for it."""
        watch = _Watch(send)
        try:
            if route not in KEYLESS:
                self._keys.admit(scope)
            await self._app(scope, receive, watch)
            if STREAM in scope:
                await scope.pop(STREAM).run(scope, receive, watch)
        except ClientGone:
            return 499
        except Exception as error:
            if not watch.status:
                await answer(error)(scope, receive, watch)
            elif not watch.complete:
                raise  # all that is left is to break the connection
        return watch.status

    async def _straight(
        self, post: Post, route: str, scope: Scope, receive: Receive, send: Send
    ) -> int:
        """The same past the framework: nothing is sent before all is known."""
        try:
            self._keys.admit(scope)
            if route == TURNS:
                scope["path_params"] = {"session_id": scope["path"].split("/")[3]}
            status, content = await post(scope, receive)
        except ClientGone:
            return 499
        except Exception as error:
            response = answer(error)
            await response(scope, receive, send)
            return response.status_code
        if not (self._outermost and ANSWER in scope and scope[ANSWER](status, content)):
            length = (b"content-length", b"%d" % len(content))
            start = {"type": "http.response.start", "status": status, "headers": [_JSON, length]}
            await send(start)
            await send({"type": "http.response.body", "body": content})
        return status


@cache
def _counted(method: str, route: str, status: int) -> tuple[Counter, Histogram]:
    """What counts such requests, and what takes their seconds."""
    return (
        metrics.counter(
            "turnstile_http_requests_total", method=method, route=route, status=str(status)
        ),
        metrics.histogram("turnstile_http_request_seconds", method=method, route=route),
    )


class _Watch:
    """`send`, remembering the status, 0 until the answer began, and whether it is complete."""

    __slots__ = ("_send", "complete", "status")

    def __init__(self, send: Send) -> None:
        self._send = send
        self.status = 0
        self.complete = False

    async def __call__(self, message: Message) -> None:
        if message["type"] == "http.response.start":
            self.status = message["status"]
        elif not message.get("more_body"):
            self.complete = True
        await self._send(message)


def _attributes(scope: Scope, method: str, route: str, status: int) -> dict[str, str | int]:
    found: dict[str, str | int] = {
        "http.request.method": method,
        "http.route": route,
        "http.response.status_code": status,
    }
    caller = scope.get(CALLER)
    if caller is not None:
        found["turnstile.tenant_id"] = caller.tenant_id
    session_id = scope.get("path_params", {}).get("session_id")
    if session_id:
        found["turnstile.session_id"] = session_id
    if status >= 500:
        found["error.type"] = str(status)
    return found


def _context(scope: Scope) -> str:
    """The caller's trace context; a `tracestate` may come in several headers."""
    parent = headers_of(scope).get(b"traceparent")
    if parent is None:
        return ""
    states = (value.decode("latin-1") for name, value in scope["headers"] if name == b"tracestate")
    return joined(parent.decode("latin-1"), ",".join(states))
