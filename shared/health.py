"""`/healthz`, `/readyz` and `/metrics` over HTTP: whether a process is alive and can do its work.

`/healthz` says that the event loop turns. `/readyz` asks every dependency and names each; 503 when one that is
needed does not answer. The gateway serves the same answers on its own port through `readiness`.
"""

from __future__ import annotations

import asyncio
import contextlib
import socket
from collections.abc import AsyncIterator, Awaitable, Callable, Collection, Mapping
from typing import Any

import uvicorn
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from shared import logs, metrics

Check = Callable[[], Awaitable[object]]

CHECK_TIMEOUT_S = 2.0
STOP_TIMEOUT_S = 2.0
_MAX_CONNECTIONS = 32


async def readiness(
    checks: Mapping[str, Check],
    *,
    optional: Collection[str] = (),
    timeout: float = CHECK_TIMEOUT_S,
) -> tuple[bool, dict[str, Any]]:
    """(ready, body): every check run at once, each bounded by `timeout` seconds.

    A check passes by returning and fails by raising. Those in `optional` are reported but do not unready. The
    body: `{"status": "ready"|"unready", "dependencies": {name: {"status": "ok"|"error", "error"?: text}}}`.
    """
    answers = await asyncio.gather(*(_ask(check, timeout) for check in checks.values()))
    dependencies = {
        name: {"status": "error", "error": error} if error else {"status": "ok"}
        for name, error in zip(checks, answers, strict=True)
    }
    needed = (error for name, error in zip(checks, answers, strict=True) if name not in optional)
    ready = not any(needed)
    return ready, {"status": "ready" if ready else "unready", "dependencies": dependencies}


async def _ask(check: Check, timeout: float) -> str | None:
    """None when the check passes, else why not, in words without secrets."""
    try:
        async with asyncio.timeout(timeout):
            await check()
    except TimeoutError:
        return f"no answer within {timeout:g} s"
    except Exception as error:
        return logs.scrub(f"{type(error).__name__}: {error}")[:300]
    return None


def health_app(
    checks: Mapping[str, Check], *, optional: Collection[str] = (), timeout: float = CHECK_TIMEOUT_S
) -> Starlette:
    """The three routes as an ASGI application."""

    async def healthz(_: Request) -> Response:
        return JSONResponse({"status": "ok"})

    async def readyz(_: Request) -> Response:
        ready, body = await readiness(checks, optional=optional, timeout=timeout)
        return JSONResponse(body, status_code=200 if ready else 503)

    async def metrics_text(_: Request) -> Response:
        return Response(metrics.render(), media_type=metrics.CONTENT_TYPE)

    return Starlette(
        routes=[
            Route("/healthz", healthz),
            Route("/readyz", readyz),
            Route("/metrics", metrics_text),
        ]
    )


class QuietServer(uvicorn.Server):
    """A server inside a process that handles its own signals; `stop` ends it."""

    @contextlib.contextmanager
    def capture_signals(self) -> Any:
        yield

    def stop(self) -> None:
        """Take no more connections, and let requests under way end."""
        self.should_exit = True


@contextlib.asynccontextmanager
async def serve_health(
    host: str,
    port: int | None,
    checks: Mapping[str, Check],
    *,
    optional: Collection[str] = (),
    timeout: float = CHECK_TIMEOUT_S,
) -> AsyncIterator[None]:
    """Serve the three routes while the block runs; port 0 or None serves none.

    Raises OSError naming the setting when the port is taken. After the block the port is free again, within
    STOP_TIMEOUT_S.
    """
    if not port:
        yield
        return
    async with health_on(_listen(host, port), checks, optional=optional, timeout=timeout):
        yield


@contextlib.asynccontextmanager
async def health_on(
    listener: socket.socket,
    checks: Mapping[str, Check],
    *,
    optional: Collection[str] = (),
    timeout: float = CHECK_TIMEOUT_S,
) -> AsyncIterator[None]:
    """The same on a socket that is bound already; it is closed after the block."""
    config = uvicorn.Config(
        health_app(checks, optional=optional, timeout=timeout),
        log_config=None,
        access_log=False,
        lifespan="off",
        limit_concurrency=_MAX_CONNECTIONS,
        timeout_keep_alive=5,
        timeout_graceful_shutdown=1,
    )
    server = QuietServer(config)
    running = asyncio.create_task(server.serve(sockets=[listener]), name="health")
    try:
        yield
    finally:
        server.stop()
        done, _ = await asyncio.wait({running}, timeout=STOP_TIMEOUT_S)
        if not done:
            running.cancel()
        listener.close()


def _listen(host: str, port: int) -> socket.socket:
    """A listening socket. Bound before the service starts its work, so that a wrong port stops it at once."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    listener = socket.socket(family, socket.SOCK_STREAM, socket.IPPROTO_TCP)
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listener.bind((host, port))
        # At once, so that nobody is turned away while the server starts.
        listener.listen(_MAX_CONNECTIONS)
    except OSError as error:
        listener.close()
        raise OSError(
            error.errno,
            f"health port {host}:{port} can't be used ({error.strerror}): "
            "free it or set TURNSTILE_HEALTH_PORT to another one, or 0 for none",
        ) from error
    return listener
