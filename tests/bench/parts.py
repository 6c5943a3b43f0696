"""The real parts of a leg: a stack of its own, on free ports, gone afterwards."""

from __future__ import annotations

import asyncio
import shutil
import tempfile
import time
from collections.abc import AsyncIterator, Collection
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path

from infra.local.addresses import Addresses, addresses_of, service_environment
from infra.local.catalogue import services
from infra.local.children import end, spawn
from infra.local.errors import StackError
from infra.local.keys import Keys, load_keys
from infra.local.logs import tail
from infra.local.migrate import migrate
from infra.local.part import NotReady, Part, Say
from infra.local.processes import read_pid
from infra.local.settings import StackSettings, own_settings
from infra.local.supervisor import supervised
from tests.bench.cpu import settled
from tests.bench.profile import Profiler

_POLL_S = 0.05


class Parts:
    """The running ground of a leg, and a way to run our services on it."""

    def __init__(self, settings: StackSettings, keys: Keys, say: Say, profiler: Profiler) -> None:
        self.addresses: Addresses = addresses_of(settings)
        self.keys = keys
        self.say = say
        self.profiler = profiler
        self._settings = settings
        self._services = {part.name: part for part in services(settings, keys)}

    @property
    def headers(self) -> dict[str, str]:
        """Those of a request to the gateway."""
        return {
            "authorization": f"Bearer {self.keys.first}",
            "content-type": "application/json",
        }

    def pid(self, part: str) -> int:
        """The pid of a part that runs. Raises StackError when it does not."""
        pid = read_pid(self._settings.folders.pid_file(part))
        if pid is None:
            raise StackError(f"{part} does not run")
        return pid

    def log(self, part: str) -> str:
        """The last lines of what a part wrote."""
        return tail(self._settings.folders.log_file(part))

    def health(self, service: str) -> str:
        """Where worker and recorder answer /metrics: `http://host:port`."""
        port = self._services[service].environment["TURNSTILE_HEALTH_PORT"]
        return f"http://127.0.0.1:{port}"

    @asynccontextmanager
    async def service(self, name: str) -> AsyncIterator[int]:
        """Run one of our processes as `make up` does, unsupervised; yields its pid once it is ready."""
        part, folders = self._services[name], self._settings.folders
        process = await spawn(part, part.command(self.say), folders)
        try:
            await self._until_ready(part)
            yield process.pid
            if process.returncode is not None:
                raise StackError(f"{name} ended by itself\n{self.log(name)}")
        finally:
            await asyncio.shield(end(part, process, folders))

    async def rest(self) -> None:
        """Wait until everything of this stack is idle, or half a minute has passed."""
        pids = [read_pid(path) for path in self._settings.folders.run.glob("*.pid")]
        if not await settled(pid for pid in pids if pid is not None):
            self.say("  the stack did not come to rest; the next round pays for it")

    async def _until_ready(self, part: Part) -> None:
        deadline = time.monotonic() + part.start_timeout
        while True:
            try:
                return await part.ready()
            except (NotReady, OSError) as error:
                if time.monotonic() > deadline:
                    raise StackError(f"{part.name}: {error}\n{self.log(part.name)}") from error
                await asyncio.sleep(_POLL_S)


@asynccontextmanager
async def running(
    ground: Collection[str], say: Say, profiler: Profiler, *, workers: int = 1, **more: str
) -> AsyncIterator[Parts]:
    """Some of kafka, postgres, clickhouse, simulator, with topics and tables. Raises StackError.

    Everything is set as in `make up`, durability included; so many `workers` can be run, and `more` are variables
    for our services besides.
    """
    root = Path(tempfile.mkdtemp(prefix="turnstile-bench-"))
    try:
        settings = own_settings(root)
        environment = {**settings.environment, **more}
        settings = replace(settings, environment=environment, workers=workers)
        async with supervised(settings, say) as supervisor:
            keys = load_keys(settings)
            await supervisor.start(keys, set(ground))
            known = service_environment(settings, keys)
            await asyncio.to_thread(migrate, settings.folders, known, topics=True)
            yield Parts(settings, keys, say, profiler)
    finally:
        shutil.rmtree(root, ignore_errors=True)
