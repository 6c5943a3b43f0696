"""Profiles of a process by py-spy while a round runs, when asked for."""

from __future__ import annotations

import asyncio
import contextlib
import signal
import subprocess
from collections.abc import AsyncIterator
from pathlib import Path

PROGRAM = "py-spy"
_RATE = 200  # samples a second
_END_S = 20.0


class Profiler:
    """Writes `<leg>.folded` (stacks and counts, for any flame graph) into a folder; None: does nothing."""

    def __init__(self, folder: Path | None) -> None:
        self._folder = folder

    @contextlib.asynccontextmanager
    async def watching(self, leg: str, pid: int) -> AsyncIterator[None]:
        """Sample the process inside the block. A figure taken here is some percent too low."""
        if self._folder is None:
            yield
            return
        self._folder.mkdir(parents=True, exist_ok=True)
        process = await asyncio.create_subprocess_exec(
            PROGRAM, "record", "--pid", str(pid), "--rate", str(_RATE), "--format", "raw",
            "--duration", "3600", "--output", str(self._folder / f"{leg}.folded"),
            stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
        )  # fmt: skip
        try:
            yield
        finally:
            with contextlib.suppress(ProcessLookupError):
                process.send_signal(signal.SIGINT)
            try:
                await asyncio.wait_for(process.wait(), _END_S)
            except TimeoutError:
                process.kill()
                await process.wait()
