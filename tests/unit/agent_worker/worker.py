"""A worker process in memory: intake and drive as `main` joins them, every task of it known, so that it can die."""

from __future__ import annotations

import asyncio
import contextvars
from collections.abc import Coroutine, Sequence
from typing import Any

from services.agent_worker.drive import Drive
from services.agent_worker.inbox.intake import Intake
from services.agent_worker.inbox.validate import Bad
from services.agent_worker.leases import Leases
from services.agent_worker.ports import InputRecord
from services.agent_worker.session.dependencies import Dependencies
from services.agent_worker.session.tools import Function, Toolbox
from services.agent_worker.settings import WorkerSettings
from shared.bus.brake import IntakeBrake
from shared.errors import Corrupt
from tests.fakes.inputs import MemoryInputTopic
from tests.unit.agent_worker.counted import (
    CountedInputConsumer,
    CountedProvider,
    CountedPublisher,
    CountedStore,
)
from tests.unit.agent_worker.effects import Effects, Halt, Tempo
from tests.unit.agent_worker.outside import BRISK, Outside, Pace


def _settings(pace: Pace) -> WorkerSettings:
    """Unchecked: a patient pace looks less often than any deployment may."""
    return WorkerSettings.model_construct(
        lease_seconds=pace.lease,
        poll_seconds=pace.poll,
        linger_seconds=0.5,
        drain_seconds=5.0,
        concurrency=10,
    )


SETTINGS = _settings(BRISK)
EVEN = Tempo("even", store=0.002, publisher=0.005, provider=0.02)
# The other way round: what is asked of the provider is there before the database has said what was asked.
SLOW_STORE = Tempo("slow_store", store=0.07, publisher=0.03, provider=0.001)
TOOL_SECONDS = 3.0

_process: contextvars.ContextVar[set[asyncio.Task[Any]] | None] = contextvars.ContextVar(
    "process", default=None
)


def know_tasks() -> None:
    """Have the running loop note of every task which worker's it is."""

    def factory(loop: Any, coro: Any, **more: Any) -> asyncio.Task[Any]:
        task = asyncio.Task(coro, loop=loop, **more)
        if (tasks := _process.get()) is not None:
            tasks.add(task)
            task.add_done_callback(lambda task: _forget(tasks, task))
        return task

    asyncio.get_running_loop().set_task_factory(factory)


def _forget(tasks: set[asyncio.Task[Any]], task: asyncio.Task[Any]) -> None:
    tasks.discard(task)
    if not task.cancelled():
        task.exception()  # heard: a dead process complains to nobody


def clock(outside: Outside) -> Function:
    """A tool that tells the hour; `outside` counts its runs."""

    async def tell() -> str:
        outside.clock_runs += 1
        await asyncio.sleep(outside.clock_seconds)
        return "noon"

    def begin(given: dict[str, Any]) -> asyncio.Future[Any]:
        return asyncio.get_running_loop().create_task(tell())

    return Function("clock", {"name": "clock"}, begin)


class Worker:
    """One process. `owner` names it in leases; `halt` says where it stops; `topic` is what it takes in, where that
    is not all."""

    counts: type[CountedStore] = CountedStore

    def __init__(
        self,
        outside: Outside,
        owner: str,
        *,
        halt: Halt | None = None,
        tempo: Tempo = EVEN,
        topic: MemoryInputTopic | None = None,
    ) -> None:
        self.effects = Effects(halt)
        self.tasks: set[asyncio.Task[Any]] = set()
        self._outside = outside
        self._store = store = self.counts(outside.store, self.effects, tempo, lambda: outside.due)
        self.needs = needs = Dependencies(
            store=store,
            publisher=CountedPublisher(outside.publisher, self.effects, tempo),
            provider=CountedProvider(outside.provider, self.effects, tempo),
            clock=outside.clock,
            chance=lambda: 0.5,
            policy=outside.policy,
            linger=SETTINGS.linger_seconds,
            tools=Toolbox([clock(outside)], seconds=TOOL_SECONDS),
            caps=outside.caps,
            turn_reserve=outside.turn_reserve,
        )
        loop = asyncio.get_running_loop()
        self.leases = Leases(owner, outside.pace.lease, loop.time)
        self.drive = Drive(self.leases, needs, _settings(outside.pace))
        inputs = CountedInputConsumer((topic or outside.topic).member(), self.effects, tempo)
        self.intake = Intake(
            inputs,
            store,
            bury=self._bury,
            knows=lambda tenant: tenant != "stranger",
            news=self.drive.news,
            brake=IntakeBrake(ratio=0.5, window=1_000),
            pause=15.0,
            hand=self.drive.hand,
        )
        self._loops: list[asyncio.Task[None]] = []

    def start(self) -> None:
        """Let it run."""
        self._keeping = self._begin(self.leases.run(self._store))
        self._loops = [self._begin(self.intake.run()), self._begin(self.drive.run())]

    def _begin(self, coro: Coroutine[Any, Any, None]) -> asyncio.Task[None]:
        def begin() -> asyncio.Task[None]:
            _process.set(self.tasks)
            return asyncio.get_running_loop().create_task(coro)

        return contextvars.copy_context().run(begin)

    async def kill(self) -> None:
        """Throw every task away; what they do while they end reaches nothing outside."""
        self.effects.dead = True
        self.effects.going.set()
        while tasks := set(self.tasks):
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)

    async def drain(self) -> None:
        """Stop as on SIGTERM."""
        for task in self._loops:
            task.cancel()
        await asyncio.gather(*self._loops, return_exceptions=True)
        await self.drive.drain()
        self._keeping.cancel()

    async def over(self) -> None:
        """Wait until it halts, or raise what ended one of its loops: the process would end with it."""
        halted = asyncio.create_task(self.effects.halted.wait())
        await asyncio.wait((halted, *self._loops), return_when=asyncio.FIRST_COMPLETED)
        if not halted.done():
            halted.cancel()
            for task in self._loops:
                if task.done():
                    await task

    async def _bury(self, bad: Sequence[Bad]) -> None:
        for record, error in bad:

            async def act(record: InputRecord = record, error: Corrupt = error) -> None:
                self._outside.buried.append((record, error.reason))

            await self.effects.do("bury", 0.0, act)
