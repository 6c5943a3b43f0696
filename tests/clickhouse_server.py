"""The embedded ClickHouse server for tests: a process of its own on a free port.

`clickhouse_url` is one server for the whole test session, however many modules import it; take a
database of your own in it (`fresh_database`), or the one of `clickhouse_archive.py`, which has its tables.
`embedded_clickhouse` starts a server just for you.
"""

from __future__ import annotations

import atexit
import contextlib
import functools
import http.client
import os
import selectors
import shutil
import subprocess
import sys
import tempfile
import time
import uuid
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlencode

import pytest

ROOT = Path(__file__).parent.parent
START_SECONDS = 60.0
STOP_SECONDS = 30.0


@dataclass(frozen=True, slots=True)
class Running:
    """A server that answers. `url` has user and database as `TURNSTILE_CLICKHOUSE_URL` wants it."""

    process: subprocess.Popen[str]
    host: str
    port: int
    path: Path

    @property
    def base(self) -> str:
        return f"http://{self.host}:{self.port}"

    @property
    def url(self) -> str:
        return f"http://default:@{self.host}:{self.port}/turnstile"


def start_clickhouse(
    path: Path, *arguments: str, port: int = 0, environment: Mapping[str, str] | None = None
) -> Running:
    """Start the server on data directory `path` and wait until it answers.

    `environment`: variables of its process besides our own.

    Raises RuntimeError with its output if it ends or stays silent instead.
    """
    command = [sys.executable, "-m", "infra.clickhouse.server", "--path", str(path)]
    process = subprocess.Popen(
        [*command, "--port", str(port), *arguments],
        cwd=ROOT,
        env={**os.environ, **(environment or {})},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    line = _ready_line(process)
    host, _, port_text = line.split()[1].removeprefix("clickhouse=http://").rpartition(":")
    return Running(process, host, int(port_text), path)


def stop_clickhouse(running: Running) -> int:
    """Ask it to stop and wait; the exit code. Killed if it does not obey in time; may be repeated."""
    running.process.terminate()
    try:
        return running.process.wait(STOP_SECONDS)
    except subprocess.TimeoutExpired:
        running.process.kill()
        return running.process.wait()
    finally:
        if running.process.stdout is not None:
            running.process.stdout.close()


@contextlib.contextmanager
def embedded_clickhouse(arguments: Sequence[str] = ()) -> Iterator[str]:
    """A server in a temporary directory, as a URL; stopped and removed afterwards."""
    with tempfile.TemporaryDirectory(prefix="clickhouse-") as directory:
        running = start_clickhouse(Path(directory), *arguments)
        try:
            yield running.url
        finally:
            stop_clickhouse(running)


@functools.cache
def shared_clickhouse() -> Running:
    """The one server of this test session; it ends with the interpreter."""
    directory = Path(tempfile.mkdtemp(prefix="clickhouse-"))
    running = start_clickhouse(directory)
    atexit.register(shutil.rmtree, directory, ignore_errors=True)
    atexit.register(stop_clickhouse, running)
    return running


@pytest.fixture(scope="session")
def clickhouse_url() -> str:
    return shared_clickhouse().url


def fresh_database(url: str) -> str:
    """`url` with the name of a database that nobody else uses; it is not created."""
    return url.rsplit("/", 1)[0] + f"/test_{uuid.uuid4().hex[:12]}"


@dataclass(frozen=True, slots=True)
class Answer:
    status: int
    headers: dict[str, str]
    body: bytes

    @property
    def code(self) -> int:
        """ClickHouse's error code; 0 for none."""
        return int(self.headers.get("x-clickhouse-exception-code", 0))


def ask(
    base: str,
    body: bytes | str = b"",
    parameters: Mapping[str, object] | None = None,
    *,
    method: str = "POST",
    path: str = "/",
    headers: dict[str, str] | None = None,
    **more: object,
) -> Answer:
    """One plain HTTP request to the server, without any client library. Raises OSError.

    `parameters` and `more` together make the query string of the URL.
    """
    host, _, port = base.removeprefix("http://").rpartition(":")
    connection = http.client.HTTPConnection(host, int(port), timeout=60)
    try:
        query = urlencode({**(parameters or {}), **more})
        raw = body.encode() if isinstance(body, str) else body
        connection.request(method, f"{path}?{query}" if query else path, raw, headers or {})
        response = connection.getresponse()
        lowered = {name.lower(): value for name, value in response.getheaders()}
        return Answer(response.status, lowered, response.read())
    finally:
        connection.close()


def _ready_line(process: subprocess.Popen[str]) -> str:
    assert process.stdout is not None
    deadline = time.monotonic() + START_SECONDS
    said: list[str] = []
    with selectors.DefaultSelector() as selector:
        selector.register(process.stdout, selectors.EVENT_READ)
        while selector.select(max(0.0, deadline - time.monotonic())):
            line = process.stdout.readline()
            said.append(line)
            if line.startswith("ready "):
                return line
            if not line:
                break
    process.kill()
    process.wait()
    raise RuntimeError(f"the ClickHouse server did not start: {''.join(said) or 'no output'}")
