"""Stops one part of a running stack and starts it again, by a file that the supervisor minds."""

import time
from collections.abc import Callable

from infra.local.errors import StackError
from infra.local.folders import Folders
from infra.local.lock import supervisor_pid
from infra.local.processes import read_pid
from infra.local.status import read_status

_TIMEOUT_S = 90.0


def hold(folders: Folders, part: str, timeout: float = _TIMEOUT_S) -> None:
    """Stop a part and keep it stopped; returns when its process is gone.

    Raises StackError when no stack runs here, it has no such part, or the time is over.
    """
    _require_part(folders, part)
    folders.hold_file(part).touch()
    pid_file = folders.pid_file(part)
    _until(lambda: not pid_file.exists(), f"{part} still runs after {timeout:.0f} s", timeout)


def release(folders: Folders, part: str, timeout: float = _TIMEOUT_S) -> None:
    """Start a held part again; returns when it serves. Raises like `hold`."""
    _require_part(folders, part)
    folders.hold_file(part).unlink(missing_ok=True)
    wait_ready(folders, part, timeout)


def wait_ready(folders: Folders, part: str, timeout: float = _TIMEOUT_S) -> int:
    """Wait until a part serves; returns its pid. Raises StackError when the time is over."""
    _until(lambda: _serves(folders, part), f"{part} not ready after {timeout:.0f} s", timeout)
    return read_pid(folders.pid_file(part)) or 0


def _serves(folders: Folders, part: str) -> bool:
    facts = read_status(folders).get(part, {})
    pid = read_pid(folders.pid_file(part))
    return facts.get("state") == "ready" and pid is not None and facts.get("pid") == pid


def _require_part(folders: Folders, part: str) -> None:
    if supervisor_pid(folders) is None:
        raise StackError(f"no stack runs in {folders.root}: `make up` starts one")
    known = read_status(folders)
    if part not in known:
        raise StackError(f"no part named {part!r}; there are: {', '.join(sorted(known))}")


def _until(true: Callable[[], bool], complaint: str, timeout: float) -> None:
    deadline = time.monotonic() + timeout
    while not true():
        if time.monotonic() > deadline:
            raise StackError(complaint)
        time.sleep(0.05)
