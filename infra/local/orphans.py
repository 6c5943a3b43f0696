"""Finds and ends the parts of a stack whose supervisor is gone."""

import shutil
import signal
from dataclasses import dataclass

from infra.local.catalogue import stop_rank
from infra.local.errors import StackError
from infra.local.folders import Folders
from infra.local.lock import supervisor_pid
from infra.local.part import Say
from infra.local.processes import is_part, read_pid, stop

_SUPERVISOR_S = 120.0  # all parts one after the other, each within its own bound
_PART_S = 20.0


@dataclass(frozen=True, slots=True)
class Orphan:
    """A live part without a supervisor."""

    name: str
    pid: int


def down(folders: Folders, say: Say) -> None:
    """Stop the supervisor, if there is one, then whatever else is left; idempotent."""
    pid = supervisor_pid(folders)
    if pid:
        say(f"stopping the stack in {folders.root} (supervisor {pid})")
        if not stop(pid, signal.SIGTERM, _SUPERVISOR_S):
            say(f"supervisor {pid} had to be killed")
    stop_orphans(folders, say)


def stop_orphans(folders: Folders, say: Say) -> None:
    """End all live parts of this folder in stop order; remove the pid files of dead ones."""
    for orphan in find_orphans(folders):
        say(f"stopping {orphan.name} ({orphan.pid}), left from an earlier run")
        gentle = signal.SIGINT if orphan.name == "postgres" else signal.SIGTERM
        stop(orphan.pid, gentle, _PART_S)
    for path in folders.run.glob("*.pid"):
        if path != folders.lock_file:
            path.unlink(missing_ok=True)


def find_orphans(folders: Folders) -> list[Orphan]:
    """The live parts of this folder, in stop order, each proven by its marks."""
    found = []
    for path in folders.run.glob("*.pid"):
        pid = read_pid(path)
        if path != folders.lock_file and pid and is_part(pid, path.stem, folders.root):
            found.append(Orphan(path.stem, pid))
    return sorted(found, key=lambda part: (stop_rank(part.name), part.name))


def clean(folders: Folders) -> None:
    """Empty the state folder. Raises StackError while something runs in it, or if it is not ours."""
    if not folders.root.exists():
        return
    if supervisor_pid(folders) or find_orphans(folders):
        raise StackError(f"a stack runs in {folders.root}: `make down` first")
    if not folders.marker.exists():
        if any(folders.root.iterdir()):
            raise StackError(f"{folders.root} was not made by this stack: not touched")
        return
    for path in folders.root.iterdir():
        shutil.rmtree(path) if path.is_dir() and not path.is_symlink() else path.unlink()
