"""Real parts for tests, started once a session on free ports: broker, database, whole stacks.

`running_parts` and `running_stack` are for tests with needs of their own; the fixtures serve the
others. State lives in a new folder under the system's temporary folder and is removed at the end.
"""

import asyncio
import itertools
import os
import shutil
import signal
import sys
import tempfile
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path

import pytest

from infra.kafka.topics import create_topics
from infra.local import hold
from infra.local.catalogue import ground
from infra.local.children import end, spawn
from infra.local.folders import Folders
from infra.local.part import NotReady, Part
from infra.local.processes import read_pid
from infra.local.settings import StackSettings, own_settings
from infra.postgres.databases import drop_database, ensure_database

START_TIMEOUT_S = 240.0
PROJECT = Path(__file__).resolve().parents[1]
_counter = itertools.count(1)


@contextmanager
def temporary_root() -> Iterator[Path]:
    """A state folder of its own, gone afterwards."""
    root = Path(tempfile.mkdtemp(prefix="turnstile-test-"))
    try:
        yield root
    finally:
        shutil.rmtree(root, ignore_errors=True)


@asynccontextmanager
async def running_parts(*names: str) -> AsyncIterator[StackSettings]:
    """Run some of kafka, postgres, clickhouse, simulator, without supervision; yields the ports.

    PostgreSQL runs without fsync: nothing here outlives the test.
    """
    with temporary_root() as root:
        settings = replace(own_settings(root), durable=False)
        settings.folders.make()
        chosen = [part for part in ground(settings) if part.name in names]
        assert {part.name for part in chosen} == set(names)
        started = []
        try:
            for part in chosen:
                argv = await asyncio.to_thread(part.command, _progress)
                started.append((part, await spawn(part, argv, settings.folders)))
            await asyncio.gather(*(_until_ready(part, settings.folders) for part in chosen))
            yield settings
        finally:
            await asyncio.gather(
                *(end(part, process, settings.folders) for part, process in started)
            )


@pytest.fixture(scope="session")
async def kafka_bootstrap() -> AsyncIterator[str]:
    """`host:port` of a real broker with every topic of the closed list."""
    async with running_parts("kafka") as settings:
        bootstrap = f"127.0.0.1:{settings.ports['kafka']}"
        await create_topics(bootstrap)
        yield bootstrap


@pytest.fixture(scope="session")
async def postgres_server() -> AsyncIterator[str]:
    """`postgresql+asyncpg://…` of a real server, ending where a database's name goes."""
    async with running_parts("postgres") as settings:
        yield f"postgresql+asyncpg://postgres@127.0.0.1:{settings.ports['postgres']}/"


@asynccontextmanager
async def fresh_database(server: str) -> AsyncIterator[str]:
    """The URL of a new, empty database on that server; dropped afterwards."""
    url = f"{server}test_{os.getpid()}_{next(_counter)}"
    await ensure_database(url)
    try:
        yield url
    finally:
        await drop_database(url)


@pytest.fixture(scope="module")
async def postgres_url(postgres_server: str) -> AsyncIterator[str]:
    """The URL of an empty database that the test module has to itself."""
    async with fresh_database(postgres_server) as url:
        yield url


@dataclass(frozen=True, slots=True)
class LocalStack:
    """A whole stack under its supervisor, as `make up` runs it, and handles on its parts.

    Part names: kafka, postgres, clickhouse, simulator, gateway, agent-worker-1, recorder.
    """

    settings: StackSettings
    gateway: str
    clickhouse_url: str
    kafka: str
    database_url: str
    simulator: str
    key: str = field(repr=False)

    def pid(self, part: str) -> int:
        """The pid of the part's process now; AssertionError when it does not run."""
        pid = read_pid(self.settings.folders.pid_file(part))
        assert pid is not None, f"{part} does not run"
        return pid

    def kill(self, part: str, number: signal.Signals = signal.SIGKILL) -> int:
        """Send a signal to a part (the supervisor starts it again); returns the pid it had."""
        pid = self.pid(part)
        os.kill(pid, number)
        return pid

    async def stop(self, part: str) -> None:
        """Stop a part and keep it stopped."""
        await asyncio.to_thread(hold.hold, self.settings.folders, part)

    async def start(self, part: str) -> None:
        """Start a stopped part again; returns when it serves."""
        await asyncio.to_thread(hold.release, self.settings.folders, part)

    async def back(self, part: str, former: int, timeout: float = START_TIMEOUT_S) -> int:
        """Wait until the part serves as another process than `former`; returns its pid."""
        async with asyncio.timeout(timeout):
            while True:
                pid = await asyncio.to_thread(hold.wait_ready, self.settings.folders, part, timeout)
                if pid != former:
                    return pid
                await asyncio.sleep(0.05)


@asynccontextmanager
async def running_stack(**environment: str) -> AsyncIterator[LocalStack]:
    """A stack of its own in a process of its own (`python -m infra.local up`), until the end.

    `environment` overrides what the stack is told, for instance TURNSTILE_WORKERS="2".
    """
    with temporary_root() as root:
        settings = own_settings(root)
        process = await asyncio.create_subprocess_exec(
            *(sys.executable, "-m", "infra.local", "up"),
            cwd=PROJECT,
            env={**_environment(settings), **environment},
            stdout=asyncio.subprocess.PIPE,
            stderr=None,
        )
        try:
            assert process.stdout is not None
            line = await asyncio.wait_for(process.stdout.readline(), START_TIMEOUT_S)
            assert line.startswith(b"ready "), f"the stack did not start: {_logs(settings.folders)}"
            yield _stack(settings, line.decode())
        finally:
            await _end_supervisor(process)


@pytest.fixture(scope="session")
async def local_stack() -> AsyncIterator[LocalStack]:
    """The whole stack with the simulator as provider, shared by all end-to-end tests."""
    async with running_stack() as stack:
        yield stack


def _environment(settings: StackSettings) -> dict[str, str]:
    ports = {f"TURNSTILE_{part.upper()}_PORT": str(port) for part, port in settings.ports.items()}
    return {**settings.environment, **ports}


def _stack(settings: StackSettings, ready: str) -> LocalStack:
    words = dict(word.split("=", 1) for word in ready.split()[1:])
    ports = settings.ports
    return LocalStack(
        settings=settings,
        gateway=words["gateway"],
        clickhouse_url=f"http://default:@127.0.0.1:{ports['clickhouse']}/turnstile",
        kafka=words["kafka"],
        database_url=f"postgresql+asyncpg://postgres@127.0.0.1:{ports['postgres']}/turnstile",
        simulator=f"http://127.0.0.1:{ports['simulator']}",
        key=words["key"],
    )


async def _end_supervisor(process: asyncio.subprocess.Process) -> None:
    if process.returncode is None:
        process.terminate()
    try:
        await asyncio.wait_for(process.wait(), START_TIMEOUT_S)
    except TimeoutError:
        process.kill()
        await process.wait()


async def _until_ready(part: Part, folders: Folders) -> None:
    reason = await _poll(part.ready, part.start_timeout)
    assert reason is None, (
        f"{part.name}: {reason}; {folders.log_file(part.name).read_text()[-2000:]}"
    )


async def _poll(ready: Callable[[], Awaitable[None]], timeout: float) -> str | None:
    """None as soon as `ready` returns, else what it complained of last."""
    reason = "never asked"
    deadline = asyncio.get_running_loop().time() + timeout
    while asyncio.get_running_loop().time() < deadline:
        try:
            await ready()
        except (NotReady, OSError) as error:
            reason = str(error)
            await asyncio.sleep(0.03)
        else:
            return None
    return reason


def _logs(folders: Folders) -> str:
    return "\n".join(f"{log.name}: {log.read_text()[-1500:]}" for log in folders.log.glob("*.log"))


def _progress(text: str) -> None:
    sys.stderr.write(f"{text}\n")
