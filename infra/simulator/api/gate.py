"""Authentication, and the note that is kept of each request.

The outermost layer: gives every answer its headers, refuses requests without key, version or beta
header, and keeps the log of requests. Written as plain ASGI because every byte passes here.
"""

from __future__ import annotations

import time

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from infra.simulator.api.decode import MAX_BODY_BYTES
from infra.simulator.api.limits import Limits
from infra.simulator.errors import ApiError, bad, refuse
from infra.simulator.world import World

BETA = "managed-agents-2026-04-01"
MEMORY_BETA = "agent-memory-2026-07-22"
REPORTS_BETA = "analytics-usage-cost-2026-08-24"
VERSIONS = ("2023-06-01", "2026-10-21")
ORGANIZATION = b"00000000-0000-4000-8000-000000000000"
WORKSPACE = b"wrkspc_01SimulatorSimulatorSim"


class Gate:
    """ASGI middleware around the whole simulator."""

    def __init__(self, app: ASGIApp, world: World) -> None:
        self._app = app
        self._world = world
        self._limits = Limits(time.monotonic()) if world.settings.rate_limits else None

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        request_id = self._world.ids.new("req")
        scope["request_id"] = request_id
        started = time.monotonic()
        note = {
            "at": self._world.written_now(),
            "method": scope["method"],
            "path": scope["path"],
            "query": scope["query_string"].decode("latin-1"),
            "status": None,
            "seconds": None,
            "request_id": request_id,
            "trace": _trace(scope),
        }
        scope["note"] = note
        if scope["path"].startswith("/v1/"):
            self._world.requests.append(note)

        async def sent(message: Message) -> None:
            if message["type"] == "http.response.start":
                note["status"] = message["status"]
                note["seconds"] = round(time.monotonic() - started, 6)
                message["headers"] = [*message["headers"], *_headers(request_id)]
            await send(message)

        try:
            self._check(scope)
        except ApiError as refusal:
            await refuse(refusal, request_id, sent)
            return
        await self._app(scope, receive, sent)

    def _check(self, scope: Scope) -> None:
        """Raises ApiError 401, 400, 413 or 429."""
        if not scope["path"].startswith("/v1/"):
            return
        headers = {name: value.decode("latin-1") for name, value in scope["headers"]}
        check_key(headers, self._world.settings.api_key)
        if headers.get(b"anthropic-version") not in VERSIONS:
            raise bad(f"anthropic-version: header must be one of {', '.join(VERSIONS)}")
        betas = headers.get(b"anthropic-beta", "").split(",")
        if scope["path"].startswith(("/v1/files", "/v1/messages", "/v1/models")):
            betas = [BETA]  # these are no part of this beta
        if scope["path"].startswith("/v1/memory_stores") and MEMORY_BETA in betas:
            betas = [BETA]  # either will do
        wanted = REPORTS_BETA if scope["path"].startswith("/v1/organizations/") else BETA
        if wanted not in (beta.strip() for beta in betas):
            raise bad(f"anthropic-beta: header must include {wanted}")
        if int(headers.get(b"content-length", "0") or 0) > MAX_BODY_BYTES:
            raise ApiError(413, f"request body exceeds {MAX_BODY_BYTES} bytes")
        if self._limits:
            self._limits.check(scope["method"], scope["path"], time.monotonic())


def _trace(scope: Scope) -> dict[str, str]:
    """The trace context that the request came with, by header."""
    names = (b"traceparent", b"tracestate")
    return {n.decode(): v.decode("latin-1") for n, v in scope["headers"] if n in names}


def check_key(headers: dict[bytes, str], wanted: str | None) -> None:
    """A bearer token or `x-api-key`. Raises ApiError 401 and never names the key."""
    scheme, _, token = headers.get(b"authorization", "").partition(" ")
    key = token.strip() if scheme.lower() == "bearer" else headers.get(b"x-api-key", "")
    if not key:
        raise ApiError(401, "authorization: send a bearer token or x-api-key")
    if wanted is not None and key != wanted:
        raise ApiError(401, "authorization: invalid api key")


def _headers(request_id: str) -> list[tuple[bytes, bytes]]:
    return [
        (b"request-id", request_id.encode()),
        (b"anthropic-organization-id", ORGANIZATION),
        (b"anthropic-workspace-id", WORKSPACE),
    ]
