"""Real servers for stores of sessions, each a process of its own that can be killed and started again.

What a machine has not got makes tests skip and say how to get it; with CI=true they fail instead.
"""

from __future__ import annotations

import hashlib
import os
import shutil
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from infra.local.ports import free_ports
from infra.local.settings import cache_folder
from infra.postgres import cluster
from infra.postgres.identity import before_exec
from tests.stack import temporary_root

PROJECT = Path(__file__).resolve().parents[1]
START_S, BUILD_S = 60.0, 900.0
FERRETDB = PROJECT / "tests" / "contract" / "stores" / "ferretdb"


class Missing(Exception):
    """The machine has not got the server; the message says how to get it."""


@dataclass(slots=True)
class Server:
    """One server. `url` is a store's URL; `process` is None while it is down."""

    name: str
    url: str
    argv: list[str]
    folder: Path
    port: int
    before: Callable[[], None] | None = None
    environment: Mapping[str, str] | None = None
    process: subprocess.Popen[bytes] | None = field(default=None, init=False)

    def start(self) -> None:
        """Start it and return when it takes connections; the test fails with its log when it does not."""
        log = self.folder.with_name(f"{self.name}.log")
        with log.open("ab") as said:
            self.process = subprocess.Popen(
                self.argv,
                stdin=subprocess.DEVNULL,
                stdout=said,
                stderr=subprocess.STDOUT,
                cwd=self.folder,
                preexec_fn=self.before,
                env=self.environment,
                start_new_session=True,
            )
        until = time.monotonic() + START_S
        while not _answers(self.port):
            if self.process.poll() is not None or time.monotonic() > until:
                pytest.fail(
                    f"{self.name} did not start: {log.read_text('utf-8', 'replace')[-3000:]}"
                )
            time.sleep(0.02)

    def kill(self) -> None:
        """kill -9."""
        assert self.process
        self.process.kill()
        self.process.wait()

    def stop(self) -> None:
        if self.process and self.process.poll() is None:
            self.process.terminate()
            try:
                self.process.wait(START_S)
            except subprocess.TimeoutExpired:
                self.kill()


@contextmanager
def running(name: str) -> Iterator[Server]:
    """The server of that name in a folder of its own. Skips or fails the test when the machine has not got it."""
    with temporary_root() as root:
        root.chmod(0o755)  # PostgreSQL runs as somebody else
        try:
            server = SERVERS[name](root)
        except Missing as missing:
            absent(f"{name}: {missing}")
        server.start()
        try:
            yield server
        finally:
            server.stop()


def absent(why: str) -> None:
    """Skips the test; fails it where everything must be there."""
    if os.environ.get("CI") == "true":
        pytest.fail(f"not on this machine: {why}")
    pytest.skip(f"not on this machine: {why}")


def _postgres(root: Path) -> Server:
    port = free_ports(1)[0]
    here = cluster.Cluster(root / "postgres", port)
    cluster.prepare(here, os.environ)
    return Server(
        name="postgres",
        url=f"postgresql://{cluster.USER}@127.0.0.1:{port}/postgres",
        argv=cluster.command(here),
        folder=here.folder,
        port=port,
        before=before_exec(cluster.identity(here)),
    )


def _mariadb(root: Path) -> Server:
    install = _program("mariadb-install-db", "mariadb-server-core mariadb-client-core")
    daemon = _program("mariadbd", "mariadb-server-core")
    port, folder = free_ports(1)[0], root / "mariadb"
    folder.mkdir()
    user = ["--user=root"] if os.geteuid() == 0 else []
    made = [install, "--no-defaults", f"--datadir={folder}", "--skip-test-db", *user]
    subprocess.run(
        [*made, "--auth-root-authentication-method=normal"],
        check=True,
        capture_output=True,
        timeout=START_S,
    )
    network = [f"--port={port}", "--bind-address=127.0.0.1", f"--socket={root}/mariadb.sock"]
    small = ["--innodb-buffer-pool-size=32M", "--performance-schema=OFF"]
    # Makes the database when it is not there.
    (root / "init.sql").write_text("CREATE DATABASE IF NOT EXISTS stores;\n")
    init = f"--init-file={root}/init.sql"
    return Server(
        name="mariadb",
        url=f"mysql://root@127.0.0.1:{port}/stores",
        argv=[daemon, "--no-defaults", f"--datadir={folder}", *user, *network, *small, init],
        folder=folder,
        port=port,
    )


def _redis(root: Path) -> Server:
    port, folder = free_ports(1)[0], root / "redis"
    folder.mkdir()
    options = ["--bind", "127.0.0.1", "--port", str(port), "--appendonly", "yes", "--save", ""]
    return Server(
        name="redis",
        url=f"redis://127.0.0.1:{port}/0",
        argv=[_program("redis-server", "redis-server"), *options, "--dir", str(folder)],
        folder=folder,
        port=port,
    )


def _mongodb(root: Path) -> Server:
    port, folder = free_ports(1)[0], root / "mongodb"
    folder.mkdir()
    return Server(
        name="mongodb",
        url=f"mongodb://127.0.0.1:{port}/stores",
        argv=[str(ferretdb()), f"127.0.0.1:{port}", str(folder)],
        folder=folder,
        port=port,
    )


def _clickhouse(root: Path) -> Server:
    port, folder = free_ports(1)[0], root / "clickhouse"
    folder.mkdir()
    module = [sys.executable, "-m", "infra.clickhouse.server"]
    return Server(
        name="clickhouse",
        url=f"clickhouse://default:@127.0.0.1:{port}/stores",
        argv=[*module, "--path", str(folder), "--port", str(port)],
        folder=folder,
        port=port,
        environment={**os.environ, "PYTHONPATH": str(PROJECT)},
    )


SERVERS: dict[str, Callable[[Path], Server]] = {
    "postgres": _postgres,
    "mariadb": _mariadb,
    "redis": _redis,
    "mongodb": _mongodb,
    "clickhouse": _clickhouse,
}


def ferretdb() -> Path:
    """The server that speaks MongoDB's protocol, built once into the user's cache. Raises Missing."""
    sources = [FERRETDB / name for name in ("main.go", "go.mod", "go.sum")]
    key = hashlib.sha256(b"".join(file.read_bytes() for file in sources)).hexdigest()[:16]
    built = cache_folder(os.environ) / "ferretdb" / key
    if built.exists():
        return built
    go = shutil.which("go") or shutil.which("go", path="/usr/local/go/bin")
    if go is None:
        raise Missing("install Go 1.22 or newer, which builds FerretDB")
    built.parent.mkdir(parents=True, exist_ok=True)
    draft = built.with_name(f"{key}.{os.getpid()}")
    try:
        subprocess.run(
            [go, "build", "-trimpath", "-ldflags=-s -w", "-o", draft, "."],
            cwd=FERRETDB,
            env={**os.environ, "CGO_ENABLED": "0"},
            check=True,
            capture_output=True,
            timeout=BUILD_S,
        )
    except subprocess.SubprocessError as error:
        raise Missing(f"FerretDB could not be built: {getattr(error, 'stderr', error)!r}") from None
    draft.replace(built)
    return built


def _program(name: str, packages: str) -> str:
    found = shutil.which(name) or shutil.which(name, path="/usr/sbin:/usr/local/sbin:/sbin")
    if found is None:
        raise Missing(f"no {name}: apt-get install {packages}")
    return found


def _answers(port: int) -> bool:
    try:
        socket.create_connection(("127.0.0.1", port), 1.0).close()
    except OSError:
        return False
    return True
