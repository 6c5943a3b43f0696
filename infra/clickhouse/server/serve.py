"""Socket, signals, start and stop of the server process."""

from __future__ import annotations

import asyncio
import contextlib
import errno
import ipaddress
import signal
import socket
import time
import uuid
from collections.abc import Iterator
from pathlib import Path

import uvicorn

from infra.clickhouse.server.app import App, Limits
from infra.clickhouse.server.engine import Engine
from infra.clickhouse.server.sessions import Sessions
from infra.clickhouse.server.users import Users

# How long a stop waits for running requests before it cuts them off.
GRACE_SECONDS = 10


class CannotStart(Exception):
    """The server cannot run as asked; the message says why and what to change."""


class _Server(uvicorn.Server):
    """Leaves signals to us: uvicorn would raise them again and skip closing the engine."""

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, self._stop)
        yield

    def _stop(self) -> None:
        self.force_exit = self.should_exit  # a second signal does not wait
        self.should_exit = True


def serve(host: str, port: int, path: Path, users: Users, limits: Limits) -> None:
    """Serve until SIGTERM or SIGINT, then finish running requests and close the engine.

    Raises CannotStart for a taken port or open users on an open address, DirectoryInUse for a
    data directory that another process holds.
    """
    _check_passwords(host, users)
    listener = _listen(host, port)
    engine = Engine(path)
    sessions = Sessions(engine, time.monotonic)
    app = App(engine, users, limits, sessions, new_id=lambda: str(uuid.uuid4()))
    config = uvicorn.Config(
        app,
        lifespan="off",
        log_level="warning",
        access_log=False,
        server_header=False,
        proxy_headers=False,
        timeout_keep_alive=75,
        timeout_graceful_shutdown=GRACE_SECONDS,
        h11_max_incomplete_event_size=1 << 20,
    )
    listener.listen(1024)  # from here on clients may come; they wait for the loop
    shown, real_port = listener.getsockname()[:2]
    print(f"ready clickhouse=http://{shown}:{real_port} engine={engine.version}", flush=True)
    try:
        _Server(config).run(sockets=[listener])
    finally:
        _close(app, engine, sessions)


def _close(app: App, engine: Engine, sessions: Sessions) -> None:
    engine.interrupt()
    app.pool.shutdown(wait=True, cancel_futures=True)
    sessions.close()
    engine.close()


def _listen(host: str, port: int) -> socket.socket:
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    listener = socket.socket(family, socket.SOCK_STREAM, socket.IPPROTO_TCP)
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listener.bind((host, port))
    except OSError as error:
        listener.close()
        if error.errno == errno.EADDRINUSE:
            raise CannotStart(
                f"port {port} on {host} is in use: stop its owner or choose another with --port"
            ) from None
        raise CannotStart(f"cannot listen on {host}:{port}: {error.strerror}") from None
    listener.set_inheritable(True)
    return listener


def _check_passwords(host: str, users: Users) -> None:
    if users.without_password and not _is_loopback(host):
        names = ", ".join(users.without_password)
        raise CannotStart(
            f"--host {host} is open to the network, but these users have no password: {names}. "
            "Set password_sha256 in the file of --users, or bind 127.0.0.1"
        )


def _is_loopback(host: str) -> bool:
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False
