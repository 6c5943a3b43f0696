"""The gateway's process: settings, then adapters, then rooms, then HTTP until SIGTERM or SIGINT.

Stopping takes ten seconds at most: streams are ended, requests under way answered, the producer and the
rows written behind are flushed. The only place of this service that builds anything.
"""

from __future__ import annotations

import gc

if __name__ == "__main__":
    # What imports make stays: looking through it meanwhile is a quarter of the time they take.
    gc.disable()

import asyncio
import contextlib
import random
import resource
import socket
import sys
from collections.abc import AsyncIterator
from dataclasses import dataclass

import uvicorn
from starlette.types import ASGIApp

from services.gateway.accept import Accept
from services.gateway.adapters.clickhouse import ClickHouseEventArchive
from services.gateway.adapters.kafka_consumers import KafkaRecordConsumer, KafkaTail
from services.gateway.adapters.kafka_inputs import KafkaInputPublisher
from services.gateway.adapters.kafka_log import KafkaEventLog
from services.gateway.adapters.sql import SqlReadModel, open_engine
from services.gateway.claims import Claims
from services.gateway.gate import Gate
from services.gateway.http.app import Rooms, build
from services.gateway.http.auth import Keys
from services.gateway.http.connection import Connection
from services.gateway.http.sse import Shares
from services.gateway.read_model.projector import Projector
from services.gateway.read_model.refold import Refold
from services.gateway.register import Register, WrittenBehind
from services.gateway.settings import HttpSettings, Settings
from services.gateway.streams.history import History
from services.gateway.streams.live import Listener, Live
from shared import process
from shared.clock import utcnow
from shared.health import QuietServer

REQUESTS_SECONDS = 3
FLUSH_SECONDS = 2.0
# Idle connections are the clients' to close: httpx does after 5 s, load balancers mostly after 60. A server that
# closes first (uvicorn: after 5 s) resets a request that is just being sent.
KEEP_ALIVE_SECONDS = 75
# Seconds and counts: probed after 30 s without a byte, every 10 s, given up after six; 90 s for what was sent.
PEER_GONE = {"TCP_KEEPIDLE": 30, "TCP_KEEPINTVL": 10, "TCP_KEEPCNT": 6, "TCP_USER_TIMEOUT": 90_000}


@dataclass
class Gateway:
    """Everything that runs. Made inside the event loop; nothing connects before `running`."""

    settings: Settings
    stopping: asyncio.Event

    def __post_init__(self) -> None:
        settings = self.settings
        database = settings.database
        engine = open_engine(database.database_url.get_secret_value(), database.database_pool)
        self.read_model = SqlReadModel(engine)
        self.inputs = KafkaInputPublisher(settings.kafka)
        self.archive = ClickHouseEventArchive(settings.archive.clickhouse_url.get_secret_value())
        self.consumer = KafkaRecordConsumer(settings.kafka)
        self.live = Live()
        self.shares = Shares(
            total=settings.http.gateway_max_streams,
            tenant=settings.http.gateway_tenant_streams,
            key=settings.http.gateway_key_streams,
            max_age=settings.http.gateway_stream_seconds,
            stall=settings.http.gateway_stall_seconds,
            chance=random.random,
        )
        self.register = Register()
        self.behind = WrittenBehind(self.read_model)
        tail = KafkaTail(settings.kafka).records
        self.listener = Listener(tail, self.live, self.register)
        self.log = KafkaEventLog(settings.kafka)
        self.history = History(self.archive, self.log, self.live, self.read_model)
        self.refold = Refold(self.read_model, self.history)
        self.projector = Projector(
            self.consumer,
            self.read_model,
            settings.tenants.knows,
            written=self.behind.wrote,
            behind=self.refold.behind,
        )

    def application(self) -> ASGIApp:
        """The HTTP side."""
        gate = Gate(self.settings.http.gateway_at_once, self.settings.http.gateway_max_waiting)
        accept = Accept(
            self.inputs,
            self.read_model,
            self.register,
            self.behind,
            Claims(self.read_model),
            gate,
            utcnow,
        )
        rooms = Rooms(
            accept=accept,
            read_model=self.read_model,
            register=self.register,
            history=self.history,
            live=self.live,
            shares=self.shares,
            checks={
                "kafka": self._check_kafka,
                "database": self.read_model.check,
                "clickhouse": self.archive.check,
            },
            closing=self.stopping,
        )
        keys = Keys(self.settings.tenants.keys)
        return build(rooms, keys, origins=self.settings.http.origins)

    async def _check_kafka(self) -> None:
        """Both ways: inputs can be published, and what is published is heard and projected."""
        await self.inputs.check()
        await self.listener.check()
        await self.consumer.check()

    @contextlib.asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        """The background work goes on inside the block; afterwards all is flushed and closed."""
        self.inputs.start()
        loops = {
            "projector": self.projector.run,
            "listener": self.listener.run,
            "written-behind": self.behind.run,
            "refold": self.refold.run,
        }
        try:
            async with process.beside(self.stopping, **loops):
                try:
                    yield
                finally:
                    await self.inputs.stop(FLUSH_SECONDS)
        finally:
            await self.behind.flush(FLUSH_SECONDS)
            await asyncio.gather(self.consumer.stop(), self.archive.stop(), self.read_model.stop())


async def serve(settings: Settings, stopping: asyncio.Event) -> None:
    """Serve until told to stop. Streams end by themselves then, and the server waits for the other requests."""
    _allow_files()
    gateway = Gateway(settings, stopping)
    config = uvicorn.Config(
        gateway.application(),
        host=settings.http.gateway_host,
        port=settings.http.gateway_port,
        loop="uvloop",
        http=Connection,
        lifespan="off",
        log_config=None,
        access_log=False,
        server_header=False,
        proxy_headers=False,
        timeout_graceful_shutdown=REQUESTS_SECONDS,
        timeout_keep_alive=KEEP_ALIVE_SECONDS,
    )
    server = QuietServer(config)
    async with gateway.running(), process.on_stop(stopping, server.stop):
        await server.serve([listening(settings.http)])


def listening(http: HttpSettings) -> socket.socket:
    """The socket that connections are taken from; they have its options. A peer that is gone, or acknowledges
    nothing while something is sent, is cut off by the kernel within two minutes (tcp(7))."""
    family = socket.AF_INET6 if ":" in http.gateway_host else socket.AF_INET
    listening = socket.socket(family, socket.SOCK_STREAM)
    listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    listening.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
    for option, value in PEER_GONE.items():
        if hasattr(socket, option):
            listening.setsockopt(socket.IPPROTO_TCP, getattr(socket, option), value)
    try:
        listening.bind((http.gateway_host, http.gateway_port))
    except OSError as error:
        listening.close()
        raise OSError(
            error.errno,
            f"{http.gateway_host}:{http.gateway_port} can't be listened on ({error.strerror}): "
            "free it or set TURNSTILE_GATEWAY_PORT to another one",
        ) from error
    return listening


def _allow_files() -> None:
    """As many open files as the system lets this process have: each stream is one."""
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))


def main() -> int:
    """The command `python -m services.gateway.main`; everything is set by the environment."""
    return process.run("gateway", "Turnstile's HTTP gateway, until SIGTERM.", Settings, serve)


if __name__ == "__main__":
    sys.exit(main())
