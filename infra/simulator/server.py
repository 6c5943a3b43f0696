"""Runs the simulator, as a process or inside a test."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from types import FrameType
from typing import cast

import uvicorn
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from infra.simulator.api.app import build
from infra.simulator.faults.cutting import TRANSPORT
from infra.simulator.faults.rules import Faults, decode_rules
from infra.simulator.settings import Settings
from infra.simulator.world import World, new_world

GRACE_SECONDS = 2
KEEP_ALIVE_SECONDS = 75  # longer than clients keep an idle connection, so that they close it


class Protocol(HttpToolsProtocol):
    """HTTP with the connection's transport in the scope, so that faults can break it."""

    def on_message_begin(self) -> None:
        super().on_message_begin()
        scope = cast("dict[str, object]", self.scope)
        scope[TRANSPORT] = self.transport


class Server(uvicorn.Server):
    """A server that ends open streams at the first signal, or it would never stop."""

    def __init__(self, config: uvicorn.Config, world: World) -> None:
        super().__init__(config)
        self._world = world

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        self._world.end_streams()
        super().handle_exit(sig, frame)


def new_server(settings: Settings) -> tuple[Server, World]:
    """A server that is not started yet. Raises ApiError where the fault file is wrong."""
    world = new_world(settings)
    rules = decode_rules(settings.faults.read_bytes()) if settings.faults else []
    config = uvicorn.Config(
        build(world, Faults(settings.seed, rules)),
        host=settings.host,
        port=settings.port,
        http=Protocol,
        loop="uvloop",
        log_level="warning",
        access_log=False,
        server_header=False,
        timeout_keep_alive=KEEP_ALIVE_SECONDS,
        timeout_graceful_shutdown=GRACE_SECONDS,
    )
    return Server(config, world), world


def bound(settings: Settings) -> socket.socket:
    """A listening socket. Raises OSError when the port is taken.

    Its protocol is said: asyncio sends small pieces of a stream at once (no delay) only then.
    """
    sock = socket.socket(socket.AF_INET, socket.SOCK_STREAM, socket.IPPROTO_TCP)
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        sock.bind((settings.host, settings.port))
        sock.listen(1024)
    except OSError:
        sock.close()
        raise
    return sock


@asynccontextmanager
async def running(settings: Settings) -> AsyncIterator[str]:
    """A simulator inside this process and loop; yields its base URL, stops it at the end."""
    server, world = new_server(settings)
    sock = bound(settings)
    host, port = sock.getsockname()[:2]
    task = asyncio.create_task(server._serve([sock]))  # without signal handlers
    try:
        async with asyncio.timeout(10):
            while not server.started:
                if task.done():
                    task.result()
                    raise RuntimeError("the simulator did not start")
                await asyncio.sleep(0.005)
        yield f"http://{host}:{port}"
    finally:
        world.end_streams()
        server.should_exit = True
        with suppress(asyncio.CancelledError):
            await asyncio.wait_for(task, GRACE_SECONDS + 5)
