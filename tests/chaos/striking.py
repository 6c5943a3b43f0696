"""Strikes a part of a running stack by signals to its processes; the supervisor starts it again."""

from __future__ import annotations

import asyncio
import os
import signal
import time
from contextlib import suppress
from pathlib import Path

from infra.local.folders import Folders
from infra.local.processes import read_pid
from tests.chaos.failed import ChaosFailed
from tests.chaos.schedule import Strike

_POLL_S = 0.05
# PostgreSQL takes SIGTERM as the wish to end when the last client has left by itself, which ours never do.
_END = {"postgres": signal.SIGINT}


async def process_of(folders: Folders, part: str, timeout: float) -> int:
    """The pid of a part, waited for while it is being started. Raises ChaosFailed when there is none in time."""
    deadline = time.monotonic() + timeout
    while (pid := read_pid(folders.pid_file(part))) is None:
        if time.monotonic() > deadline:
            raise ChaosFailed(f"{part} has no process after {timeout:.0f} s")
        await asyncio.sleep(_POLL_S)
    return pid


async def hit(pid: int, what: Strike) -> None:
    """Strike a process. A pause lasts as long as this does, and ends also when this is cancelled.

    PostgreSQL is many processes: all of them stand still; of the others only the one is killed.
    """
    if what.kind != "pause":
        gentle = _END.get(what.part, signal.SIGTERM)
        _send([pid], signal.SIGKILL if what.kind == "kill" else gentle)
        return
    family = [pid, *_children(pid)]
    _send(family, signal.SIGSTOP)
    try:
        await asyncio.sleep(what.seconds)
    finally:
        _send(family, signal.SIGCONT)


def _children(pid: int) -> list[int]:
    try:
        words = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
    except OSError:
        return []
    return [int(word) for word in words]


def _send(pids: list[int], number: signal.Signals) -> None:
    for pid in pids:
        with suppress(ProcessLookupError):
            os.kill(pid, number)
