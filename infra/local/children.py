"""Starts and ends the process of a part.

Each child leads a session of its own, so a Ctrl-C at the terminal reaches only the supervisor,
which then ends the parts in order. Should the supervisor be killed, the kernel sends each child
the part's own stop signal.
"""

import asyncio
import ctypes
import os
import signal
import subprocess
from asyncio.subprocess import Process
from collections.abc import Callable, Sequence

from infra.local.folders import Folders
from infra.local.part import Part
from infra.local.processes import marks

_PARENT_DEATH_SIGNAL = 1  # PR_SET_PDEATHSIG
_libc = ctypes.CDLL(None)


async def spawn(part: Part, argv: Sequence[str], folders: Folders) -> Process:
    """Start the part: output appended to its log, pid file written. Raises OSError."""
    with folders.log_file(part.name).open("ab") as log:
        process = await asyncio.create_subprocess_exec(
            *argv,
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=subprocess.STDOUT,
            env={**part.environment, **marks(part.name, folders.root)},
            cwd=part.folder,
            start_new_session=True,
            preexec_fn=_before_exec(part, os.getpid()),
        )
    write_whole(folders, part.name, process.pid)
    return process


async def end(part: Part, process: Process, folders: Folders) -> None:
    """End the process, gently at first, and remove its pid file. Fine when it is gone already."""
    if process.returncode is None:
        process.send_signal(part.stop_signal)
        # A paused process takes no signal but this and SIGKILL.
        process.send_signal(signal.SIGCONT)
    try:
        await asyncio.wait_for(process.wait(), part.stop_timeout)
    except TimeoutError:
        process.kill()
        await process.wait()
    folders.pid_file(part.name).unlink(missing_ok=True)


def write_whole(folders: Folders, name: str, pid: int) -> None:
    """Write a pid file so that no reader ever sees half of it."""
    draft = folders.run / f".{name}.pid"
    draft.write_text(f"{pid}\n")
    draft.replace(folders.pid_file(name))


def _before_exec(part: Part, parent: int) -> Callable[[], None]:
    def prepare() -> None:
        if part.identity:
            part.identity.assume()
        # After the change of user, which would clear it.
        _libc.prctl(_PARENT_DEATH_SIGNAL, part.stop_signal.value, 0, 0, 0)
        if os.getppid() != parent:  # died before the line above took hold
            os._exit(1)

    return prepare
