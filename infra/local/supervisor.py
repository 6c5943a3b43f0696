"""Starts, supervises and stops the whole stack: stage by stage, in order, all or nothing.

Start: the ground (broker, database, archive, simulator) at once; tables and topics as soon as the
parts that hold them are ready; then the services. End: the reverse, services first, so that nothing
loses what it stands on while it works.
"""

import asyncio
from collections.abc import AsyncIterator, Collection, Coroutine, Iterable, Mapping
from contextlib import asynccontextmanager
from itertools import groupby
from typing import Any

from infra.local.addresses import service_environment
from infra.local.catalogue import ground, services, stop_rank
from infra.local.errors import StackError
from infra.local.keys import Keys
from infra.local.lock import holding
from infra.local.migrate import make_database, make_topics, migrate
from infra.local.orphans import stop_orphans
from infra.local.part import Part, Say
from infra.local.ports import require_free
from infra.local.runner import Runner
from infra.local.settings import StackSettings
from infra.local.status import write_status


class StopRequested(Exception):
    """The user asked for the end while the stack was still starting."""


class Supervisor:
    """Runs the parts of one stack; build it with `supervised`."""

    def __init__(self, settings: StackSettings, say: Say) -> None:
        self._settings = settings
        self._say = say
        self._tasks: dict[Runner, asyncio.Task[None]] = {}
        self._stop = asyncio.Event()

    def request_stop(self) -> None:
        """End `wait` or a start under way; asked twice, parts are killed instead of drained."""
        if self._stop.is_set():
            self._say("killing what is left")
            for runner in self._tasks:
                runner.kill()
        self._stop.set()

    async def start(self, keys: Keys, only: Collection[str] | None = None) -> None:
        """Return when every part serves. `only` names the parts to start, None for all.

        Raises StackError when one does not come up, StopRequested on `request_stop`.
        """
        base = _chosen(ground(self._settings), only)
        above = _chosen(services(self._settings, keys), only)
        _require_known(only, base + above)
        for part in base + above:
            for port, variable in part.ports.items():
                require_free(part.name, port, variable)
        for part in base + above:
            self._settings.folders.hold_file(part.name).unlink(missing_ok=True)
        runners = {runner.part.name: runner for runner in self._begin(base)}
        environment = service_environment(self._settings, keys) if above else None
        await self._unless_stopped(self._ground(runners, environment))
        await self._unless_stopped(_all_ready(self._begin(above)))

    @property
    def stopping(self) -> bool:
        """Whether the end has been requested."""
        return self._stop.is_set()

    async def wait(self) -> None:
        """Return when the end is requested."""
        await self._stop.wait()

    async def stop(self) -> None:
        """End all parts in order; each is given its time, then killed."""
        self._stop.set()
        ranked = sorted(self._tasks, key=lambda runner: stop_rank(runner.part.name))
        for _, same in groupby(ranked, key=lambda runner: stop_rank(runner.part.name)):
            runners = list(same)
            for runner in runners:
                runner.stop()
            await asyncio.gather(*(self._tasks[r] for r in runners), return_exceptions=True)
        self._report()

    def _begin(self, parts: list[Part]) -> list[Runner]:
        runners = [Runner(part, self._settings.folders, self._say, self._report) for part in parts]
        for runner in runners:
            self._tasks[runner] = asyncio.create_task(runner.run(), name=runner.part.name)
        return runners

    async def _ground(
        self, runners: Mapping[str, Runner], environment: Mapping[str, str] | None
    ) -> None:
        """Return when these parts are ready and hold what the services need. Without an `environment` of services
        there are none: tables are left alone then."""
        await asyncio.gather(
            _all_ready(runners.values()), self._topics(runners), self._tables(runners, environment)
        )

    async def _topics(self, runners: Mapping[str, Runner]) -> None:
        if "kafka" in runners:
            await runners["kafka"].wait_ready()
            await make_topics(self._settings)

    async def _tables(
        self, runners: Mapping[str, Runner], environment: Mapping[str, str] | None
    ) -> None:
        if "postgres" in runners:
            await runners["postgres"].wait_ready()
            await make_database(self._settings)
        if environment is None:
            return
        if "clickhouse" in runners:
            await runners["clickhouse"].wait_ready()
        folders, elsewhere = self._settings.folders, "kafka" not in runners
        await asyncio.to_thread(migrate, folders, environment, topics=elsewhere)
        self._say("migrations done")

    async def _unless_stopped(self, work: Coroutine[Any, Any, object]) -> None:
        """Do the work, but give it up when a part fails or the end is requested."""
        doing = asyncio.ensure_future(work)
        stopping = asyncio.ensure_future(self._stop.wait())
        try:
            watched = {doing, stopping, *self._tasks.values()}
            done, _ = await asyncio.wait(watched, return_when=asyncio.FIRST_COMPLETED)
            for task in done - {stopping}:
                task.result()  # raises what it died of
            if stopping in done:
                raise StopRequested
        finally:
            doing.cancel()
            stopping.cancel()

    def _report(self) -> None:
        write_status(
            self._settings.folders,
            {
                runner.part.name: {
                    "state": runner.state,
                    "pid": runner.pid,
                    "restarts": runner.restarts,
                }
                for runner in self._tasks
            },
        )


@asynccontextmanager
async def supervised(settings: StackSettings, say: Say) -> AsyncIterator[Supervisor]:
    """A supervisor that holds the state folder; everything it started is gone on exit.

    Raises StackError when somebody else holds the folder.
    """
    settings.folders.make()
    with holding(settings.folders):
        stop_orphans(settings.folders, say)
        supervisor = Supervisor(settings, say)
        try:
            yield supervisor
        finally:
            await supervisor.stop()


async def _all_ready(runners: Iterable[Runner]) -> None:
    await asyncio.gather(*(runner.wait_ready() for runner in runners))


def _chosen(parts: list[Part], only: Collection[str] | None) -> list[Part]:
    return [part for part in parts if only is None or part.name in only]


def _require_known(only: Collection[str] | None, parts: list[Part]) -> None:
    unknown = set(only or ()) - {part.name for part in parts}
    if unknown:
        raise StackError(f"--only: no part named {', '.join(sorted(unknown))} in this stack")
