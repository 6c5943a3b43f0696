"""Memory and IO of a process, from /proc (proc(5))."""

from __future__ import annotations

from pathlib import Path

MIB = 1024 * 1024


def resident(pid: int) -> int:
    """Resident memory in bytes. Raises OSError when the process is gone."""
    return _number(Path(f"/proc/{pid}/status"), "VmRSS") * 1024


def highest_resident(pid: int) -> int:
    """The most it ever was, in bytes."""
    return _number(Path(f"/proc/{pid}/status"), "VmHWM") * 1024


def transferred(pid: int) -> tuple[int, int]:
    """Bytes read and written by read(2) and write(2) and their like, sockets under uvloop included."""
    path = Path(f"/proc/{pid}/io")
    return _number(path, "rchar"), _number(path, "wchar")


def _number(path: Path, name: str) -> int:
    for line in path.read_text().splitlines():
        key, _, rest = line.partition(":")
        if key == name:
            return int(rest.split()[0])
    raise OSError(f"{path}: no {name}")
