"""Processes by pid, told apart from later ones that got the same pid (from /proc)."""

import contextlib
import os
import signal
import time
from pathlib import Path

_PART = "TURNSTILE_PART"
_VAR = "TURNSTILE_VAR"


def marks(part: str, root: Path) -> dict[str, str]:
    """The variables that mark a process as the given part of the stack at `root`."""
    return {_PART: part, _VAR: str(root)}


def is_part(pid: int, part: str, root: Path) -> bool:
    """Whether this live process is the given part of the stack at `root`.

    A pid file alone is not proof, since pids are used again: the process itself must carry the marks that it was
    started with. One of another user's hides them (from root too, in a usual container); its command line must name
    the part's folder then.
    """
    if not alive(pid):
        return False
    wanted = {f"{name}={value}".encode() for name, value in marks(part, root).items()}
    try:
        return wanted <= set(Path(f"/proc/{pid}/environ").read_bytes().split(b"\0"))
    except PermissionError:
        folder = os.fsencode(root / part)
        words = _read(pid, "cmdline").split(b"\0")
        return any(word.partition(b"=")[2] == folder for word in words)
    except OSError:
        return False


def alive(pid: int) -> bool:
    """Whether the process runs; one that has ended and waits to be collected does not."""
    state = _read(pid, "stat").rpartition(b")")[2].split()
    return bool(state) and state[0] != b"Z"


def command_of(pid: int) -> str:
    """The command line, shortened; `?` when it may not be read."""
    text = _read(pid, "cmdline").replace(b"\0", b" ").decode(errors="replace").strip()
    return (text if len(text) <= 120 else text[:117] + "...") or "?"


def read_pid(path: Path) -> int | None:
    """The number in a pid file, None when there is none."""
    try:
        return int(path.read_text())
    except (OSError, ValueError):
        return None


def stop(pid: int, gentle: signal.Signals, timeout: float) -> bool:
    """End a process: the gentle signal first, SIGKILL after `timeout` seconds.

    Returns whether the gentle signal was enough. For processes that are not our children.
    """
    _send(pid, gentle)
    _send(pid, signal.SIGCONT)  # a paused process takes no signal but this and SIGKILL
    if _gone(pid, timeout):
        return True
    _send(pid, signal.SIGKILL)
    _gone(pid, 5)
    return False


def _gone(pid: int, timeout: float) -> bool:
    deadline = time.monotonic() + timeout
    while alive(pid):
        if time.monotonic() > deadline:
            return False
        time.sleep(0.02)
    return True


def _send(pid: int, number: signal.Signals) -> None:
    with contextlib.suppress(ProcessLookupError):
        os.kill(pid, number)


def _read(pid: int, name: str) -> bytes:
    try:
        return Path(f"/proc/{pid}/{name}").read_bytes()
    except OSError:
        return b""
