"""Real servers for stores of sessions, each a process of its own that can be killed and started again."""

from __future__ import annotations

import os
import socket
import subprocess
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from infra.local.ports import free_ports
from infra.postgres import cluster
from infra.postgres.identity import before_exec
from tests.stack import temporary_root

PROJECT = Path(__file__).resolve().parents[1]
START_S = 60.0


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
    """The server of that name in a folder of its own."""
    with temporary_root() as root:
        root.chmod(0o755)  # PostgreSQL runs as somebody else
        server = SERVERS[name](root)
        server.start()
        try:
            yield server
        finally:
            server.stop()


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


SERVERS: dict[str, Callable[[Path], Server]] = {
    "postgres": _postgres,
}


def _answers(port: int) -> bool:
    try:
        socket.create_connection(("127.0.0.1", port), 1.0).close()
    except OSError:
        return False
    return True
