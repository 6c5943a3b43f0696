"""The lock of a state folder: at most one supervisor, released by its death."""

import fcntl
import os
from collections.abc import Iterator
from contextlib import contextmanager

from infra.local.errors import StackError
from infra.local.folders import Folders
from infra.local.processes import command_of, read_pid


@contextmanager
def holding(folders: Folders) -> Iterator[None]:
    """Be the supervisor of this folder. Raises StackError naming the one that is already there."""
    with folders.lock_file.open("a+") as handle:
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise StackError(_taken(folders)) from None
        handle.truncate(0)
        handle.write(f"{os.getpid()}\n")
        handle.flush()
        try:
            yield
        finally:
            handle.truncate(0)


def supervisor_pid(folders: Folders) -> int | None:
    """The pid of the supervisor that runs the stack in this folder now, None when none does."""
    try:
        with folders.lock_file.open() as handle:
            fcntl.flock(handle, fcntl.LOCK_SH | fcntl.LOCK_NB)
            return None
    except FileNotFoundError:
        return None
    except BlockingIOError:
        return read_pid(folders.lock_file)


def _taken(folders: Folders) -> str:
    pid = read_pid(folders.lock_file)
    who = f"process {pid} ({command_of(pid)})" if pid else "another process"
    return (
        f"{folders.root} is already the stack of {who}: stop it with `make down`, "
        "or set TURNSTILE_VAR and the ports for a second one"
    )
