"""Keeps one part running: starts it, waits until it is ready, starts it again when it dies, ends it.

States: `starting`, `ready`, `waiting` (died, to be started again), `held` (stopped on request,
see Folders.hold_file), `stopped`.
"""

import asyncio
import os
import signal
import time
from asyncio.subprocess import Process
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

from infra.local.children import end, spawn
from infra.local.errors import StackError
from infra.local.folders import Folders
from infra.local.logs import rotate, tail
from infra.local.part import NotReady, Part, Say

_TICK_S = 0.05
_CALM_TICK_S = 0.2  # how soon a request to hold a part is seen
_ROTATE_EVERY_S = 5.0
_PROBE_TIMEOUT_S = 10.0
_FIRST_DELAY_S, _LONGEST_DELAY_S = 0.05, 10.0
_SETTLED_S = 30.0  # a part that lived this long starts again without delay growing
_FIRST_TRIES = 3


class Runner:
    """Keeps one part running. `state`, `pid` and `restarts` are for reading only."""

    def __init__(
        self, part: Part, folders: Folders, say: Say, changed: Callable[[], None] = lambda: None
    ) -> None:
        self.part = part
        self.state = "starting"
        self.pid: int | None = None
        self.restarts = 0
        self._folders = folders
        self._say = say
        self._changed = changed
        self._stopping = asyncio.Event()
        self._once_ready = asyncio.Event()
        self._reason = "not asked yet"
        self._delay = _FIRST_DELAY_S

    async def wait_ready(self) -> None:
        """Return once the part was ready for the first time."""
        await self._once_ready.wait()

    def stop(self) -> None:
        """Ask `run` to end the process and return."""
        self._stopping.set()

    def kill(self) -> None:
        """End the process at once, for the impatient; `run` then returns after `stop`."""
        if self.pid:
            with suppress(ProcessLookupError):
                os.kill(self.pid, signal.SIGKILL)

    async def run(self) -> None:
        """Keep the part running until `stop`.

        Raises StackError when it cannot be started in the first place; once it was ready it is
        started again without end. The process is gone and its pid file removed on any exit.
        """
        argv = await asyncio.to_thread(self.part.command, self._say)
        while not self._stopping.is_set():
            await self._while_held()
            if self._stopping.is_set():
                break
            born = time.monotonic()
            code = await self._life(argv)
            if not self._stopping.is_set() and not self._held():
                await self._after_death(code, time.monotonic() - born)
        self._enter("stopped")

    async def _life(self, argv: list[str]) -> int | None:
        """One process from spawn to end; returns its exit code."""
        self._enter("starting")
        process = await spawn(self.part, argv, self._folders)
        self.pid = process.pid
        self._changed()
        try:
            await self._until_ready(process)
            await self._until_ended(process)
        finally:
            await asyncio.shield(end(self.part, process, self._folders))
            self.pid = None
        return process.returncode

    async def _until_ready(self, process: Process) -> None:
        born = time.monotonic()
        deadline = born + self.part.start_timeout
        while self._goes_on(process):
            if await self._is_ready():
                self._enter("ready")
                self._say(f"{self.part.name} ready after {time.monotonic() - born:.1f} s")
                self._once_ready.set()
                return
            if time.monotonic() > deadline:
                self._too_late()
                deadline += self.part.start_timeout
            await _pause(process, _TICK_S)

    async def _is_ready(self) -> bool:
        try:
            await asyncio.wait_for(self.part.ready(), _PROBE_TIMEOUT_S)
        except (NotReady, OSError, TimeoutError) as error:
            self._reason = str(error) or repr(error)
            return False
        return True

    async def _until_ended(self, process: Process) -> None:
        rotate_at = 0.0
        while self._goes_on(process):
            if time.monotonic() >= rotate_at:
                rotate(self._folders.log_file(self.part.name))
                rotate_at = time.monotonic() + _ROTATE_EVERY_S
            await _pause(process, _CALM_TICK_S)

    async def _after_death(self, code: int | None, lived: float) -> None:
        self._delay = _FIRST_DELAY_S if lived > _SETTLED_S else self._delay
        self.restarts += 1
        if not self._once_ready.is_set() and self.restarts >= _FIRST_TRIES:
            raise StackError(
                f"{self.part.name} does not start ({ended(code)}).{self._last_words()}"
            )
        self._say(
            f"{self.part.name} ended ({ended(code)}) after {lived:.1f} s, "
            f"starting it again in {self._delay:.1f} s; log: {self._log}"
        )
        self._enter("waiting")
        with suppress(TimeoutError):
            await asyncio.wait_for(self._stopping.wait(), self._delay)
        self._delay = min(self._delay * 2, _LONGEST_DELAY_S)

    def _too_late(self) -> None:
        text = f"{self.part.name} is not ready after {self.part.start_timeout:.0f} s"
        if not self._once_ready.is_set():
            raise StackError(f"{text}: {self._reason}.{self._last_words()}")
        self._say(f"{text} since its restart: {self._reason}; log: {self._log}")

    async def _while_held(self) -> None:
        while self._held():
            if self.state != "held":
                self._enter("held")
            if self._stopping.is_set():
                return
            await asyncio.sleep(_TICK_S)

    def _held(self) -> bool:
        return self._folders.hold_file(self.part.name).exists()

    def _goes_on(self, process: Process) -> bool:
        return process.returncode is None and not self._stopping.is_set() and not self._held()

    def _enter(self, state: str) -> None:
        self.state = state
        self._changed()

    def _last_words(self) -> str:
        return f" Last lines of {self._log}:\n{tail(self._log)}"

    @property
    def _log(self) -> Path:
        return self._folders.log_file(self.part.name)


def ended(code: int | None) -> str:
    """An exit code in words: `exit code 1`, `killed by signal 9`."""
    if code is not None and code < 0:
        return f"killed by signal {-code}"
    return f"exit code {code}"


async def _pause(process: Process, seconds: float) -> None:
    with suppress(TimeoutError):
        await asyncio.wait_for(process.wait(), seconds)
