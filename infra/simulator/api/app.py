"""The simulator's web application.

From outside in: the gate (headers, key, log), the faults, the routes. The routes a running session
uses most stand first.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route
from starlette.types import ASGIApp

from infra.simulator.api.agents import Agents
from infra.simulator.api.answer import JsonBytes
from infra.simulator.api.credentials import Credentials
from infra.simulator.api.environments import Environments
from infra.simulator.api.events import Events
from infra.simulator.api.files import Files
from infra.simulator.api.gate import Gate
from infra.simulator.api.inspect import Inspect
from infra.simulator.api.memory import MemoryStores
from infra.simulator.api.messages import Messages
from infra.simulator.api.models import Models
from infra.simulator.api.reports import Reports
from infra.simulator.api.sessions import Sessions
from infra.simulator.api.vaults import Vaults
from infra.simulator.errors import ApiError
from infra.simulator.faults.gate import FaultGate
from infra.simulator.faults.rules import Faults
from infra.simulator.messages.log import MessageLog
from infra.simulator.world import World


def build(world: World, faults: Faults) -> ASGIApp:
    """The whole application over one world."""

    @asynccontextmanager
    async def lifespan(_: Starlette) -> AsyncIterator[None]:
        yield
        world.end_streams()
        async with asyncio.timeout(5):
            await world.driver.stop()

    routes = [
        *Events(world).routes(),
        *Sessions(world).routes(),
        *Agents(world).routes(),
        *Environments(world).routes(),
        *Vaults(world).routes(),
        *Credentials(world).routes(),
        *MemoryStores(world).routes(),
        *_unless_without(world),
        *Reports(world).routes(),
        *Inspect(world, faults).routes(),
    ]
    handlers = {ApiError: _refused, HTTPException: _unrouted}
    app = Starlette(routes=routes, lifespan=lifespan, exception_handlers=handlers)
    return Gate(FaultGate(app, faults, world), world)


def _unless_without(world: World) -> list[Route]:
    """What a server of the same API may not have at all."""
    found = {
        "files": Files(world).routes(),
        "messages": Messages(world, MessageLog(world.settings.retain)).routes(),
        "models": Models(world).routes(),
    }
    without = world.settings.without
    return [route for name, routes in found.items() if name not in without for route in routes]


def _refused(request: Request, error: Exception) -> Response:
    assert isinstance(error, ApiError)
    body = error.body(request.scope["request_id"])
    return JsonBytes(body, error.status, error.headers)


def _unrouted(request: Request, error: Exception) -> Response:
    """Unknown paths and methods, in the API's own words."""
    assert isinstance(error, HTTPException)
    path = request.url.path
    reason = (
        f"{request.method} {path} does not exist"
        if error.status_code in (404, 405)
        else error.detail
    )
    return _refused(request, ApiError(error.status_code, reason))
