"""What happens to every request before and after its route: admitted, traced, counted, answered.

One layer of plain ASGI around the application. It also carries what is posted most, turns and new sessions,
straight to its endpoint: the framework's own layers cost as much as everything else about accepting one.
"""

from __future__ import annotations

import time
from collections.abc import Mapping

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from services.gateway.http.auth import CALLER, Keys
from services.gateway.http.problems import answer
from services.gateway.http.request import OPEN, TURNS, ClientGone, headers_of, route_of
from services.gateway.http.sse import STREAM
from shared import metrics, telemetry
from shared.span_names import http_span
from shared.telemetry import SpanKind
from shared.trace_context import joined

_METHODS = frozenset({"GET", "POST", "DELETE", "HEAD", "PUT", "PATCH", "OPTIONS"})


class Front:
    """The outermost application; `posts` are the endpoints of routes that are posted to straight.

    Whatever is raised below becomes a problem+json answer.
    """

    def __init__(self, app: ASGIApp, posts: Mapping[str, ASGIApp], keys: Keys) -> None:
        self._app = app
        self._posts = posts
        self._keys = keys

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
        watch = _Watch(send)
        with telemetry.span(
            http_span(method, route), parent=_context(scope), kind=SpanKind.SERVER
        ) as span:
            await self._answer(route, scope, receive, watch)
            if span.is_recording():
                span.set_attributes(_attributes(scope, method, route, watch.status))
        metrics.inc(
            "turnstile_http_requests_total", method=method, route=route, status=str(watch.status)
        )
        seconds = time.perf_counter() - began
        metrics.observe("turnstile_http_request_seconds", seconds, method=method, route=route)

    async def _answer(self, route: str, scope: Scope, receive: Receive, watch: _Watch) -> None:
        try:
            self._keys.admit(scope)
            post = self._posts.get(route) if scope["method"] == "POST" else None
            if post is None:
                await self._app(scope, receive, watch)
                if STREAM in scope:
                    await scope.pop(STREAM).run(scope, receive, watch)
            else:
                if route == TURNS:
                    scope["path_params"] = {"session_id": scope["path"].split("/")[3]}
                await post(scope, receive, watch)
        except ClientGone:
            watch.status = 499
        except Exception as error:
            if not watch.status:
                await answer(error)(scope, receive, watch)
            elif not watch.complete:
                raise  # all that is left is to break the connection


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
