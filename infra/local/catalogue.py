"""The parts of a stack, built from the settings, in the order in which they start.

First the parts that others stand on, then (after the migrations) the services.
"""

import signal
import subprocess
import sys
from collections.abc import Callable
from functools import partial
from pathlib import Path

from infra.kafka import broker as kafka
from infra.kafka.jars import JarError, ensure_jars
from infra.kafka.java import find_java
from infra.local import probes
from infra.local.addresses import (
    addresses_of,
    plain_environment,
    provider_environment,
    service_environment,
    simulated,
)
from infra.local.errors import StackError
from infra.local.kafka_classes import class_archive, make_class_archive
from infra.local.keys import Keys
from infra.local.part import Part, Say
from infra.local.ports import free_ports
from infra.local.settings import StackSettings, variable_of
from infra.postgres import cluster as postgres

# Ends first what produces, last what everybody writes to.
STOP_ORDER = (
    ("gateway", "agent-worker", "recorder", "watcher"),
    ("simulator",),
    ("clickhouse",),
    ("postgres",),
    ("kafka",),
)
_IMPORT_S = 120.0  # three of them start at once, on a busy machine of two cores
_DRAIN_S = 40.0  # a worker lets the turns it drives reach a resting point


def ground(settings: StackSettings) -> list[Part]:
    """The parts that the services stand on, without those that live elsewhere."""
    parts = []
    if settings.kafka_bootstrap is None:
        parts.append(_kafka(settings))
    if settings.database_url is None:
        parts.append(_postgres(settings))
    if settings.clickhouse_url is None:
        parts.append(_clickhouse(settings))
    if simulated(settings):
        parts.append(_simulator(settings))
    return parts


def services(settings: StackSettings, keys: Keys) -> list[Part]:
    """The processes of Turnstile itself."""
    names = [f"agent-worker-{number}" for number in range(1, settings.workers + 1)]
    health = free_ports(len(names) + 2)
    workers = [
        _service(settings, keys, name, "services.agent_worker.main", health=port)
        for name, port in zip(names, health, strict=False)
    ]
    recorder = _service(settings, keys, "recorder", "services.recorder.main", health=health[-2])
    parts = [_gateway(settings, keys), *workers, recorder]
    if settings.watcher:
        watch = ("services.operator.main", "agents", "watch", "--port", str(health[-1]))
        parts.append(_service(settings, keys, "watcher", *watch, health=health[-1]))
    return parts


def fetch(settings: StackSettings, say: Say) -> list[Path]:
    """Kafka's jars, got now if need be; nothing when the broker is somebody else's.

    Raises StackError that says what could not be had.
    """
    if settings.kafka_bootstrap:
        return []
    try:
        return ensure_jars(settings.cache / "jars", say, repository=settings.maven_url)
    except (JarError, OSError) as error:
        raise StackError(str(error)) from error


def quicken(settings: StackSettings, jars: list[Path], say: Say) -> None:
    """Make the archive from which the broker takes its classes, if there is none: it starts without one too."""
    try:
        java = _java(settings)
        archive = class_archive(settings.cache, java, jars)
        if jars and not archive.exists():
            say("kafka: archiving its classes, so that it starts in half the time; once")
            make_class_archive(archive, java, jars, plain_environment(settings))
    except (RuntimeError, OSError, subprocess.SubprocessError) as error:
        say(f"kafka: goes on without an archive of its classes: {error}")


def stop_rank(name: str) -> int:
    """When a part is to be ended: lower first."""
    kind = "agent-worker" if name.startswith("agent-worker-") else name
    return next((i for i, names in enumerate(STOP_ORDER) if kind in names), 0)


def _kafka(settings: StackSettings) -> Part:
    port = settings.ports["kafka"]
    environment = plain_environment(settings)

    def command(say: Say) -> list[str]:
        """Fetch jars, prepare the broker's folder, and return its command line. Blocks; raises StackError."""
        try:
            jars = fetch(settings, say)
            java = _java(settings)
            folder = settings.folders.data("kafka")
            archive = class_archive(settings.cache, java, jars)
            broker = kafka.Broker(
                java,
                jars,
                folder,
                port,
                free_ports(1)[0],
                archive=archive if archive.exists() else None,
            )
            kafka.prepare(broker, environment)
        except (RuntimeError, OSError) as error:
            raise StackError(str(error)) from error
        return kafka.command(broker)

    return Part(
        name="kafka",
        command=command,
        ready=partial(probes.kafka, f"127.0.0.1:{port}"),
        environment=environment,
        ports=_ports("kafka", port),
        stop_timeout=20.0,
    )


def _java(settings: StackSettings) -> Path:
    return find_java(settings.environment.get("JAVA_HOME"), settings.environment.get("PATH"))


def _postgres(settings: StackSettings) -> Part:
    port = settings.ports["postgres"]
    environment = plain_environment(settings)
    server = postgres.Cluster(settings.folders.data("postgres"), port, settings.durable)

    def command(_say: Say) -> list[str]:
        try:
            postgres.prepare(server, environment)
            return postgres.command(server)
        except (RuntimeError, OSError) as error:
            raise StackError(str(error)) from error

    try:
        identity = postgres.identity(server)
    except (RuntimeError, OSError) as error:
        raise StackError(str(error)) from error
    return Part(
        name="postgres",
        command=command,
        ready=partial(probes.postgres, server.url()),
        environment=environment,
        ports=_ports("postgres", port),
        identity=identity,
        folder=server.folder,
        stop_signal=signal.SIGINT,
    )


def _clickhouse(settings: StackSettings) -> Part:
    port, folder = settings.ports["clickhouse"], settings.folders.data("clickhouse")
    arguments = ["infra.clickhouse.server", "--port", str(port), "--path", str(folder)]
    return Part(
        name="clickhouse",
        command=_module(*arguments),
        ready=partial(probes.clickhouse, f"http://127.0.0.1:{port}"),
        environment={**plain_environment(settings), "PYTHONUNBUFFERED": "1"},
        ports=_ports("clickhouse", port),
        stop_timeout=30.0,
    )


def _simulator(settings: StackSettings) -> Part:
    port = settings.ports["simulator"]
    return Part(
        name="simulator",
        command=_module("infra.simulator", "--port", str(port)),
        ready=partial(probes.speaks_http, f"http://127.0.0.1:{port}/"),
        environment={**plain_environment(settings), "PYTHONUNBUFFERED": "1"},
        ports=_ports("simulator", port),
    )


def _gateway(settings: StackSettings, keys: Keys) -> Part:
    port = settings.ports["gateway"]
    return Part(
        name="gateway",
        command=_module("services.gateway.main"),
        ready=partial(probes.ready, f"{addresses_of(settings).gateway}/readyz"),
        environment={
            **service_environment(settings, keys),
            **provider_environment(settings),
            "TURNSTILE_API_KEYS": keys.pairs,
            "TURNSTILE_CONNECT_KEY": settings.environment.get(
                "TURNSTILE_CONNECT_KEY", keys.connect
            ),
            "TURNSTILE_GATEWAY_PORT": str(port),
            "TURNSTILE_INSTANCE": "gateway",
        },
        ports=_ports("gateway", port),
        start_timeout=_IMPORT_S,
    )


def _service(settings: StackSettings, keys: Keys, name: str, *arguments: str, health: int) -> Part:
    provider = provider_environment(settings) if name.startswith("agent-worker") else {}
    environment = {**service_environment(settings, keys), **provider}
    return Part(
        name=name,
        command=_module(*arguments),
        ready=partial(probes.ready, f"http://127.0.0.1:{health}/readyz"),
        environment={
            **environment,
            "TURNSTILE_HEALTH_PORT": str(health),
            "TURNSTILE_INSTANCE": name,
        },
        stop_timeout=_DRAIN_S,
        start_timeout=_IMPORT_S,
    )


def _module(*arguments: str) -> Callable[[Say], list[str]]:
    return lambda _say: [sys.executable, "-m", *arguments]


def _ports(part: str, port: int) -> dict[int, str]:
    return {port: variable_of(part)}
