"""The gateway's processes: settings, then adapters, then rooms, then HTTP until SIGTERM or SIGINT.

One process or more serve HTTP on one port and never wait for each other; one more, the projector's, keeps the
tables, so that requests do not. They start and end together. Stopping takes ten seconds at most: streams are ended,
requests under way answered, the producer is flushed. The only place of this service that builds anything.
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
import secrets
import socket
import sys
import time
from collections.abc import AsyncIterator
from dataclasses import dataclass
from functools import partial

import uvicorn
from starlette.types import ASGIApp

from services.gateway.accept import Accept
from services.gateway.adapters.clickhouse import ClickHouseEventArchive
from services.gateway.adapters.connects import SqlLinks
from services.gateway.adapters.kafka_consumers import KafkaRecordConsumer, KafkaTail
from services.gateway.adapters.kafka_inputs import KafkaInputPublisher
from services.gateway.adapters.kafka_log import KafkaEventLog
from services.gateway.adapters.oauth_http import GuardedHttp
from services.gateway.adapters.owned import SqlOwned
from services.gateway.adapters.releases import SqlReleases
from services.gateway.adapters.sql import SqlReadModel, open_engine
from services.gateway.adapters.users import SqlUsers
from services.gateway.adapters.vaults import ProviderVaults
from services.gateway.claims import Claims
from services.gateway.confirmations import Confirmations
from services.gateway.connect.hosts import Hosts
from services.gateway.connect.links import Connects
from services.gateway.connect.sweep import Sweep
from services.gateway.gate import Gate
from services.gateway.http.app import Rooms, build
from services.gateway.http.auth import Keys
from services.gateway.http.connection import Connection
from services.gateway.http.sse import Shares
from services.gateway.ids import fresh
from services.gateway.read_model.caught_up import CaughtUp
from services.gateway.read_model.projector import Projector
from services.gateway.read_model.refold import Refold
from services.gateway.register import Register
from services.gateway.reuse import Reuse
from services.gateway.settings import HttpSettings, Settings
from services.gateway.siblings import Siblings, listeners
from services.gateway.streams.history import History
from services.gateway.streams.live import Listener, Live
from services.gateway.vaults import OwnVaults
from shared import process
from shared.clock import utcnow
from shared.health import QuietServer, health_on
from shared.ownership import Ownership

PROJECTOR = "projector"
REQUESTS_SECONDS = 3
# So soon a turn that was accepted is in the tables (see docs/guarantees.md).
TABLES_SECONDS = 2.0
FLUSH_SECONDS = 2.0
# Idle connections are the clients' to close: httpx does after 5 s, load balancers mostly after 60. A server that
# closes first (uvicorn: after 5 s) resets a request that is just being sent.
KEEP_ALIVE_SECONDS = 75
# Seconds and counts: probed after 30 s without a byte, every 10 s, given up after six; 90 s for what was sent.
PEER_GONE = {"TCP_KEEPIDLE": 30, "TCP_KEEPINTVL": 10, "TCP_KEEPCNT": 6, "TCP_USER_TIMEOUT": 90_000}


@dataclass
class Gateway:
    """Everything that runs in a process that serves HTTP. Made inside the event loop; nothing connects before
    `running`."""

    settings: Settings
    siblings: Siblings
    stopping: asyncio.Event

    def __post_init__(self) -> None:
        settings, http = self.settings, self.settings.http
        self.read_model = _read_model(settings)
        self.users = SqlUsers(self.read_model.engine)
        self.releases = SqlReleases(self.read_model.engine)
        self.owned = SqlOwned(self.read_model.engine)
        self.vaults = ProviderVaults(settings.provider)
        self.hosts = Hosts(settings.connect.hosts)
        self.oauth = GuardedHttp(self.hosts)
        self.inputs = KafkaInputPublisher(settings.kafka)
        self.archive = ClickHouseEventArchive(settings.archive.clickhouse_url.get_secret_value())
        self.live = Live()
        self.shares = Shares(
            total=http.share(http.gateway_max_streams),
            tenant=http.share(http.gateway_tenant_streams),
            key=http.share(http.gateway_key_streams),
            max_age=http.gateway_stream_seconds,
            stall=http.gateway_stall_seconds,
            chance=random.random,
        )
        self.register = Register()
        tail = KafkaTail(settings.kafka).records
        self.listener = Listener(tail, self.live, self.register)
        self.log = KafkaEventLog(settings.kafka)
        self.history = History(self.archive, self.log, self.live, self.read_model)

    def application(self) -> ASGIApp:
        """The HTTP side."""
        http = self.settings.http
        gate = Gate(http.share(http.gateway_at_once), http.share(http.gateway_max_waiting))
        reuse = Reuse(self.users, self.read_model, self.register, http.session_reuse, fresh)
        claims = Claims(self.read_model)
        accept = Accept(
            self.inputs,
            self.read_model,
            self.register,
            claims,
            reuse,
            _ownership(self.settings, self.owned, self.releases),
            gate,
            utcnow,
            fresh,
        )
        oauth = "mcp_oauth" not in self.settings.provider.without
        confirmations = Confirmations(accept, self.read_model)
        vaults = OwnVaults(self.vaults, self.owned, confirmations, utcnow, oauth)
        rooms = Rooms(
            accept=accept,
            read_model=self.read_model,
            register=self.register,
            caught_up=CaughtUp(self.read_model, self.live.ring, TABLES_SECONDS),
            history=self.history,
            costs=self.archive,
            profiles=self.users,
            releases=self.releases,
            vaults=vaults,
            connects=self._connects(vaults),
            live=self.live,
            shares=self.shares,
            checks={
                "kafka": self._check_kafka,
                "database": self.read_model.check,
                "clickhouse": self.archive.check,
            },
            metrics=self.siblings.metrics,
            closing=self.stopping,
            public_url=self.settings.connect.public_url,
            patience=TABLES_SECONDS if http.gateway_processes > 1 else 0.0,
        )
        return build(rooms, Keys(self.settings.tenants.keys), origins=http.origins)

    def _connects(self, vaults: OwnVaults) -> Connects:
        connect = self.settings.connect
        return Connects(
            SqlLinks(self.read_model.engine),
            vaults,
            self.oauth,
            self.hosts,
            key=connect.key,
            seconds=connect.connect_seconds,
            origins=self.settings.http.origins,
            clock=utcnow,
            chance=partial(secrets.token_urlsafe, 32),
        )

    async def _check_kafka(self) -> None:
        """Both ways: inputs can be published, and what is published is heard and projected."""
        await self.inputs.check()
        await self.listener.check()
        await self.siblings.check()

    @contextlib.asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        """The background work goes on inside the block; afterwards all is flushed and closed."""
        self.inputs.start()
        try:
            async with process.beside(self.stopping, listener=self.listener.run):
                try:
                    yield
                finally:
                    await self.inputs.stop(FLUSH_SECONDS)
        finally:
            await asyncio.gather(
                self.archive.stop(), self.read_model.stop(), self.vaults.stop(), self.oauth.stop()
            )


async def serve(sockets: Sockets, name: str, settings: Settings, stopping: asyncio.Event) -> None:
    """Serve until told to stop. Streams end by themselves then, and the server waits for the other requests."""
    _allow_files()
    asked, siblings = sockets.of(name)
    gateway = Gateway(settings, siblings, stopping)
    config = uvicorn.Config(
        gateway.application(),
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
    checks = {"kafka": gateway.listener.check}
    async with (
        health_on(asked, checks),
        gateway.running(),
        process.on_stop(stopping, server.stop),
    ):
        await server.serve([sockets.public[name]])


async def project(sockets: Sockets, settings: Settings, stopping: asyncio.Event) -> None:
    """Keep the gateway's tables until told to stop: the projector, and what folds sessions anew."""
    asked, _ = sockets.of(PROJECTOR)
    read_model = _read_model(settings)
    archive = ClickHouseEventArchive(settings.archive.clickhouse_url.get_secret_value())
    feed = KafkaRecordConsumer(settings.kafka)
    refold = Refold(read_model, History(archive, KafkaEventLog(settings.kafka), Live(), read_model))
    sweep = Sweep(SqlLinks(read_model.engine), utcnow)
    owned, releases = SqlOwned(read_model.engine), SqlReleases(read_model.engine)
    ownership = _ownership(settings, owned, releases)
    projector = Projector(
        feed,
        read_model,
        settings.tenants.knows,
        behind=refold.behind,
        strange=ownership.strange,
    )
    try:
        async with health_on(asked, {"kafka": feed.check}):
            await process.until(
                stopping, projector=projector.run, refold=refold.run, sweep=sweep.run
            )
    finally:
        await asyncio.gather(feed.stop(), archive.stop(), read_model.stop())


def _ownership(settings: Settings, owned: SqlOwned, releases: SqlReleases) -> Ownership:
    return Ownership(
        owned,
        unbound=settings.ownership.unbound_ids,
        defaults=settings.provider.defaults,
        clock=utcnow,
        monotonic=time.monotonic,
        released=releases.has,
        absent=settings.provider.absent,
    )


def _read_model(settings: Settings) -> SqlReadModel:
    database = settings.database
    return SqlReadModel(
        open_engine(database.database_url.get_secret_value(), database.database_pool)
    )


class Sockets:
    """The sockets of all processes, made before them; each closes what is another's. `public` are those of the
    processes that serve HTTP."""

    def __init__(self, http: HttpSettings) -> None:
        names = [f"http-{number + 1}" for number in range(http.gateway_processes)]
        self.public = dict(zip(names, listening(http), strict=True))
        self._asked = listeners([*names, PROJECTOR])

    def of(self, name: str) -> tuple[socket.socket, Siblings]:
        """In the process of that name: where the others ask it, and whom it can ask itself."""
        ports = {one: asked.getsockname()[1] for one, asked in self._asked.items() if one != name}
        for made in (self.public, self._asked):
            for other in made.keys() - {name}:
                made[other].close()
        return self._asked[name], Siblings(ports)


def listening(http: HttpSettings) -> list[socket.socket]:
    """A socket for each process that connections are taken from, all on one port: the system shares them out.
    Raises OSError that names the setting when the port is taken."""
    several = http.gateway_processes > 1
    try:
        # Alone first: sockets that share a port share it with any other that would.
        alone = _bound(http.gateway_host, http.gateway_port)
        if not several:
            return [alone]
        port = alone.getsockname()[1]
        alone.close()
        return [_bound(http.gateway_host, port, shared=True) for _ in range(http.gateway_processes)]
    except OSError as error:
        raise OSError(
            error.errno,
            f"{http.gateway_host}:{http.gateway_port} can't be listened on ({error.strerror}): "
            "free it or set TURNSTILE_GATEWAY_PORT to another one",
        ) from error


def _bound(host: str, port: int, *, shared: bool = False) -> socket.socket:
    """A socket whose connections have its options. A peer that is gone, or acknowledges nothing while something is
    sent, is cut off by the kernel within two minutes (tcp(7)). The protocol is said, so that asyncio sends what is
    written at once."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    made = socket.socket(family, socket.SOCK_STREAM, socket.IPPROTO_TCP)
    made.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    made.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
    if shared:
        made.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
    for option, value in PEER_GONE.items():
        if hasattr(socket, option):
            made.setsockopt(socket.IPPROTO_TCP, getattr(socket, option), value)
    try:
        made.bind((host, port))
    except OSError:
        made.close()
        raise
    return made


def _allow_files() -> None:
    """As many open files as the system lets this process have: each stream is one."""
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))


def processes(settings: Settings) -> dict[str, process.Work[Settings]]:
    """What each process does: those that serve HTTP, this one first, and the projector's."""
    sockets = Sockets(settings.http)
    return {
        **{name: partial(serve, sockets, name) for name in sockets.public},
        PROJECTOR: partial(project, sockets),
    }


def main() -> int:
    """The command `python -m services.gateway.main`; everything is set by the environment."""
    does = "Turnstile's HTTP gateway, until SIGTERM."
    return process.run_several("gateway", does, Settings, processes)


if __name__ == "__main__":
    sys.exit(main())
