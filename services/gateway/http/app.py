"""The FastAPI application, assembled from what main hands in."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping, Sequence
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import msgspec
from fastapi import FastAPI
from fastapi.exceptions import RequestValidationError
from fastapi.telemetry import TelemetryConfig
from starlette.exceptions import HTTPException
from starlette.middleware.cors import CORSMiddleware
from starlette.requests import Request
from starlette.responses import Response
from starlette.types import ASGIApp

import shared.bus
from services.gateway.accept import Accept
from services.gateway.connect.links import Connects
from services.gateway.http import connect, health, problems, vaults
from services.gateway.http.actions import ACTIONS, action
from services.gateway.http.agents import agent_lister
from services.gateway.http.auth import Keys
from services.gateway.http.costs import cost_reader
from services.gateway.http.described import DESCRIBED
from services.gateway.http.events import events_endpoint
from services.gateway.http.front import Front, Post
from services.gateway.http.openapi import TITLE, complete
from services.gateway.http.profiles import profile_reader, profile_writer
from services.gateway.http.replay import replay_endpoint
from services.gateway.http.request import (
    AGENTS,
    CONNECT,
    CONNECT_CALLBACK,
    CONNECT_PAGE,
    COSTS,
    CREDENTIAL,
    CREDENTIALS,
    PREWARM,
    PROFILE,
    SESSIONS,
    TURNS,
    VAULT,
    VAULTS,
    route_of,
)
from services.gateway.http.sessions import (
    OpenSession,
    PrewarmSession,
    session_lister,
    session_reader,
)
from services.gateway.http.sse import Shares
from services.gateway.http.turns import PostTurn, turn_reader
from services.gateway.ports import CostArchive, ProfileStore, ReadModel, ReleaseStore
from services.gateway.read_model.caught_up import CaughtUp
from services.gateway.register import Register
from services.gateway.streams.history import History
from services.gateway.streams.live import Live
from services.gateway.vaults import OwnVaults
from shared.errors import Rejected, Transient
from shared.health import Check

ASYNCAPI = Path(shared.bus.__file__).with_name("asyncapi.json")
SESSION = "/v1/sessions/{session_id}"


@dataclass(frozen=True, slots=True)
class Rooms:
    """What the routes work with. `metrics` renders those of the whole gateway; `closing` is set when streams have
    to end; `patience` is that of `turn_reader`, `public_url` that of `connect_maker`."""

    accept: Accept
    read_model: ReadModel
    register: Register
    caught_up: CaughtUp
    history: History
    costs: CostArchive
    profiles: ProfileStore
    releases: ReleaseStore
    vaults: OwnVaults
    connects: Connects
    live: Live
    shares: Shares
    checks: Mapping[str, Check]
    metrics: Callable[[], Awaitable[bytes]]
    closing: asyncio.Event
    patience: float = 0.0
    public_url: str = ""


# A page sends its key in a header of its own: cookies are of no use here, and credentials stay off.
CORS: dict[str, Any] = {
    "allow_methods": ("GET", "HEAD", "POST", "PUT", "DELETE"),
    "allow_headers": (
        "Authorization",
        "Content-Type",
        "Idempotency-Key",
        "Last-Event-ID",
        "traceparent",
        "tracestate",
    ),
    "expose_headers": ("Retry-After", "Allow", "WWW-Authenticate"),
    "max_age": 3600,
}
# FastAPI's own spans would begin a second trace for each request, probes included; the front traces and counts.
NO_SECOND_TELEMETRY: TelemetryConfig = {"tracing": False, "metrics": False, "logs": False}
Lifespan = Callable[[FastAPI], AbstractAsyncContextManager[None]]


def build(
    rooms: Rooms, keys: Keys, lifespan: Lifespan | None = None, *, origins: Sequence[str] = ()
) -> ASGIApp:
    """The gateway as an ASGI application; pages of `origins` ("*": all) may call it from a browser."""
    app = FastAPI(
        title=TITLE,
        telemetry=NO_SECOND_TELEMETRY,
        lifespan=lifespan,
        docs_url=None,
        redoc_url=None,
        openapi_url=None,
        redirect_slashes=False,
    )
    for kind in (RequestValidationError, HTTPException, Rejected, Transient, Exception):
        app.add_exception_handler(kind, problems.handle)
    app.add_exception_handler(405, _not_allowed)
    _add_routes(app, rooms)
    posts: dict[str, Post] = {
        SESSIONS: OpenSession(rooms.accept),
        PREWARM: PrewarmSession(rooms.accept),
        TURNS: PostTurn(rooms.accept),
    }
    front = Front(app, posts, keys, outermost=not origins)
    # Outermost: a preflight comes without a key, and a page may read refusals too.
    return CORSMiddleware(front, origins, **CORS) if origins else front


def _add_routes(app: FastAPI, rooms: Rooms) -> None:
    reads, accept, history = rooms.read_model, rooms.accept, rooms.history
    closing = rooms.closing
    _add(app, "POST", SESSIONS, _straight, 201)
    _add(app, "POST", PREWARM, _straight, 201)
    _add(app, "GET", SESSIONS, session_lister(reads))
    _add(app, "GET", SESSION, session_reader(rooms.caught_up, history))
    _add(app, "DELETE", SESSION, action(accept, "erase"), 202)
    _add(app, "PUT", f"{SESSION}/budget", action(accept, "budget"), 202)
    for name in ACTIONS.keys() - {"erase", "budget"}:
        _add(app, "POST", f"{SESSION}/{name}", action(accept, name), 202)
    _add(app, "POST", TURNS, _straight, 202)
    _add(
        app,
        "GET",
        f"{SESSION}/turns/{{turn_id}}",
        turn_reader(rooms.caught_up, rooms.register, rooms.patience),
    )
    _add(
        app,
        "GET",
        f"{SESSION}/events",
        events_endpoint(reads, history, rooms.live, rooms.shares, closing),
    )
    _add(app, "GET", f"{SESSION}/replay", replay_endpoint(reads, history, rooms.shares, closing))
    _add(app, "GET", PROFILE, profile_reader(rooms.profiles))
    _add(app, "PUT", PROFILE, profile_writer(rooms.profiles, accept.clock))
    _add(app, "GET", COSTS, cost_reader(rooms.costs))
    _add(app, "GET", AGENTS, agent_lister(rooms.releases))
    _add_vaults(app, rooms.vaults)
    _add_connects(app, rooms)
    _add(app, "GET", "/healthz", health.healthz)
    _add(app, "GET", "/readyz", health.readyz(rooms.checks))
    _add(app, "GET", "/metrics", health.metrics_text(rooms.metrics))
    _add(
        app, "GET", "/openapi.json", _document(lambda: msgspec.json.encode(complete(app.openapi())))
    )
    _add(app, "GET", "/asyncapi.json", _document(ASYNCAPI.read_bytes))


def _add_vaults(app: FastAPI, own: OwnVaults) -> None:
    _add(app, "POST", VAULTS, vaults.vault_maker(own), 201)
    _add(app, "GET", VAULTS, vaults.vault_lister(own))
    _add(app, "GET", VAULT, vaults.vault_reader(own))
    _add(app, "DELETE", VAULT, vaults.vault_deleter(own))
    _add(app, "POST", CREDENTIALS, vaults.credential_maker(own), 201)
    _add(app, "GET", CREDENTIALS, vaults.credential_lister(own))
    _add(app, "DELETE", CREDENTIAL, vaults.credential_deleter(own))
    _add(app, "POST", f"{CREDENTIAL}/rotate", vaults.credential_rotator(own))
    _add(app, "POST", f"{CREDENTIAL}/validate", vaults.credential_validator(own))


def _add_connects(app: FastAPI, rooms: Rooms) -> None:
    connects = rooms.connects
    _add(app, "POST", CONNECT, connect.connect_maker(connects, rooms.public_url), 201)
    _add(app, "GET", CONNECT_CALLBACK, connect.connect_finisher(connects))
    _add(app, "GET", CONNECT_PAGE, connect.connect_page(connects))
    _add(app, "POST", CONNECT_PAGE, connect.connect_beginner(connects), 303)


def _add(
    app: FastAPI, method: str, path: str, endpoint: Callable[..., object], status: int = 200
) -> None:
    described = DESCRIBED[(method, path)]
    app.add_api_route(
        path,
        endpoint,
        methods=[method],
        status_code=status,
        response_model=None,
        response_class=Response,
        summary=described.summary,
        operation_id=described.name,
        openapi_extra=described.openapi(path),
    )


async def _straight(_: Request) -> None:
    """Stands in the framework's documents for an endpoint that `Front` calls by itself."""
    raise NotImplementedError


async def _not_allowed(request: Request, _: Exception) -> Response:
    """The framework's own answer names the methods of one route of a path only."""
    route = route_of(request.url.path)
    allowed = ", ".join(sorted(method for method, path in DESCRIBED if path == route))
    return problems.problem(
        "method_not_allowed", f"this path takes {allowed}", headers={"Allow": allowed}
    )


def _document(read: Callable[[], bytes]) -> Callable[[Request], object]:
    """An endpoint for a document that never changes; read at the first request."""
    kept: list[bytes] = []

    async def get_document(_: Request) -> Response:
        if not kept:
            kept.append(await asyncio.to_thread(read))
        return Response(kept[0], media_type="application/json")

    return get_document
