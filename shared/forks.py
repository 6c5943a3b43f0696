"""Processes beside this one, forked before its event loop starts: told to stop with it, and gone when it is gone.

Each inherits what the parent has imported and opened by then, so it starts at once and shares that memory.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
from collections.abc import AsyncIterator, Callable, Mapping

from shared import logs

# How long the others may take to stop after this one has; then they are killed.
STOP_SECONDS = 10.0
_log = logs.get("forks")


class ForkBroke(Exception):
    """A process beside this one ended by itself, or did not stop in good order."""


class Forks:
    """One process for each of `works`, by name: it does its work and ends with the exit code that is returned.

    Made where nothing runs yet. In a new process `works` never return to the caller.
    """

    def __init__(self, works: Mapping[str, Callable[[Lifeline], int]]) -> None:
        ours, theirs = os.pipe()
        self._pids: dict[str, int] = {}
        # What can be read once the process is gone: the system closes its end then.
        self._ends: dict[str, int] = {}
        for name, work in works.items():
            end, held = os.pipe()
            pid = os.fork()
            if pid == 0:
                os.close(theirs)
                _leave(work, Lifeline(ours))
            os.close(held)
            self._pids[name], self._ends[name] = pid, end
        os.close(ours)
        self._held = theirs

    @contextlib.asynccontextmanager
    async def beside(self, stopping: asyncio.Event) -> AsyncIterator[None]:
        """Around this process's own work. `stopping` stops the others too, and is set when one of them ends.

        Raises ForkBroke after the block when one ended by itself, with another exit code than 0, or not at all.
        """
        loop = asyncio.get_running_loop()
        gone = {name: asyncio.Event() for name in self._pids}
        early: list[str] = []

        def ended(name: str) -> None:
            loop.remove_reader(self._ends[name])
            gone[name].set()
            if not stopping.is_set():
                early.append(name)
                _log.critical("process_ended", process=name, pid=self._pids[name])
                stopping.set()

        for name, end in self._ends.items():
            loop.add_reader(end, ended, name)
        telling = asyncio.create_task(self._tell(stopping), name="forks-stop")
        try:
            yield
        finally:
            stopping.set()
            await telling
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(STOP_SECONDS):
                    await asyncio.gather(*(one.wait() for one in gone.values()))
            codes = {name: self._code(name, gone[name].is_set()) for name in self._pids}
        # One that was told to stop before it could listen to that has ended by the signal.
        if early or not {0, -signal.SIGTERM}.issuperset(codes.values()):
            raise ForkBroke(f"exit codes {codes}, ended by itself: {early}")

    async def _tell(self, stopping: asyncio.Event) -> None:
        await stopping.wait()
        for pid in self._pids.values():
            _signal(pid, signal.SIGTERM)

    def _code(self, name: str, ended: bool) -> int:
        if not ended:
            _signal(self._pids[name], signal.SIGKILL)
        return os.waitstatus_to_exitcode(os.waitpid(self._pids[name], 0)[1])


class Lifeline:
    """A forked process's hold on its parent."""

    def __init__(self, end: int) -> None:
        self._end = end

    @contextlib.asynccontextmanager
    async def beside(self, _: asyncio.Event) -> AsyncIterator[None]:
        """Around the process's work: it ends on the spot when its parent does, as a killed one would."""
        loop = asyncio.get_running_loop()
        loop.add_reader(self._end, os._exit, 1)
        try:
            yield
        finally:
            loop.remove_reader(self._end)


def _leave(work: Callable[[Lifeline], int], lifeline: Lifeline) -> None:
    """Do the work and end the process, whatever happens."""
    code = 1
    try:
        code = work(lifeline)
    finally:
        os._exit(code)


def _signal(pid: int, number: signal.Signals) -> None:
    with contextlib.suppress(ProcessLookupError):
        os.kill(pid, number)
