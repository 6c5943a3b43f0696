"""Strikes a part of a running stack by signals to its processes; the supervisor starts it again."""

from __future__ import annotations

import asyncio
import signal
import time

from infra.local.folders import Folders
from infra.local.processes import read_pid
from tests.chaos.failed import ChaosFailed
from tests.chaos.schedule import Strike
from tests.family import children_of, paused, send

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
        send([pid], signal.SIGKILL if what.kind == "kill" else gentle)
        return
    with paused(pid, *children_of(pid)):
        await asyncio.sleep(what.seconds)
