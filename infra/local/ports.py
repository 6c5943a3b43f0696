"""Free ports, and who holds one that is taken (from /proc, so on Linux only)."""

import random
import socket
from pathlib import Path

from infra.local.errors import StackError
from infra.local.processes import command_of

# Below the range from which the kernel takes the ports of outgoing connections: a part that is
# restarted must find its port as it left it.
_FREE_RANGE = range(15000, 32000)
_TRIES = 200


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
    """`count` different ports that nobody listens on now. Raises StackError when there are none."""
    chance = chance or random.Random()
    found: list[int] = []
    for _ in range(_TRIES + count):
        port = chance.choice(_FREE_RANGE)
        if port not in found and is_free(port):
            found.append(port)
        if len(found) == count:
            return found
    raise StackError(f"no {count} free ports between {_FREE_RANGE.start} and {_FREE_RANGE.stop}")


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
