"""Free ports, and who holds one that is taken (from /proc, so on Linux only)."""

import random
import socket
import sys
from collections import deque
from pathlib import Path

from infra.local.errors import StackError
from infra.local.processes import command_of

# Below the range from which the kernel takes the ports of outgoing connections: a part that is
# restarted must find its port as it left it.
_FREE_RANGE = range(15000, 32000)
_TRIES = 200

# The marks of the ports this process has handed out last: by then the older ones are listened on.
_MARKS: deque[socket.socket] = deque(maxlen=64)


def is_free(port: int) -> bool:
    """Whether 127.0.0.1:port can be listened on now."""
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("127.0.0.1", port))
        except OSError:
            return False
    return True


def free_ports(count: int, chance: random.Random | None = None) -> list[int]:
    """`count` different ports that nobody listens on now, and that no other call has just handed out.

    Stacks that start at the same time do not take each other's. Raises StackError when there are none.
    """
    chance = chance or random.Random()
    found: list[int] = []
    for _ in range(_TRIES + count):
        port = chance.choice(_FREE_RANGE)
        if port not in found and is_free(port) and _marked(port):
            found.append(port)
        if len(found) == count:
            return found
    raise StackError(f"no {count} free ports between {_FREE_RANGE.start} and {_FREE_RANGE.stop}")


def _marked(port: int) -> bool:
    """Mark the port as handed out, for every process of this machine; False when it is marked already.

    The mark is a name without a file (Linux's abstract sockets): it goes with this process.
    """
    if sys.platform != "linux":
        return True
    mark = socket.socket(socket.AF_UNIX)
    try:
        mark.bind(f"\0turnstile-port-{port}")
    except OSError:
        mark.close()
        return False
    _MARKS.append(mark)
    return True


def require_free(part: str, port: int, variable: str) -> None:
    """Raises StackError that names port, part, holder and the variable to change."""
    if not is_free(port):
        raise StackError(
            f"port {port}, wanted by {part}, is in use by {holder(port)}: stop that process "
            f"or set {variable} to another port"
        )


def holder(port: int) -> str:
    """Who listens on the port, in words: `process 12 (its command line)`."""
    inodes = _listening(port)
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit() and inodes & _sockets(entry):
            return f"process {entry.name} ({command_of(int(entry.name))})"
    return "a process that cannot be seen from here"


def _listening(port: int) -> set[str]:
    """The inodes of the sockets that listen on the port."""
    found = set()
    for table in (Path("/proc/net/tcp"), Path("/proc/net/tcp6")):
        for line in table.read_text().splitlines()[1:] if table.exists() else []:
            columns = line.split()
            if columns[3] == "0A" and int(columns[1].rpartition(":")[2], 16) == port:
                found.add(columns[9])
    return found


def _sockets(process: Path) -> set[str]:
    found = set()
    try:
        for handle in (process / "fd").iterdir():
            target = str(handle.readlink())
            if target.startswith("socket:["):
                found.add(target[8:-1])
    except OSError:  # ended meanwhile, or another user's
        pass
    return found
