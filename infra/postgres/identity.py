"""The user that PostgreSQL runs as: it refuses to be root, so root lends the process to `nobody`.

The data folder then belongs to `nobody`. Where a parent folder is closed to others (a project
under /root, a temporary folder of mode 0700) the process also gets one capability: to pass
through folders it may not read. Without that capability the start fails and says so.
"""

import ctypes
import os
import pwd
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

_USER = "nobody"
_KEEP_CAPABILITIES = 8  # PR_SET_KEEPCAPS
_AMBIENT, _RAISE = 47, 2  # PR_CAP_AMBIENT, PR_CAP_AMBIENT_RAISE
_DAC_READ_SEARCH, _DAC_OVERRIDE = 2, 1  # the first is the smaller one; containers often lack it
_CAPABILITY_VERSION_3 = 0x20080522
_libc = ctypes.CDLL(None, use_errno=True)


@dataclass(frozen=True, slots=True)
class Identity:
    """A user to become before exec. `capability` is kept across exec, None for none."""

    uid: int
    gid: int
    capability: int | None = None

    def assume(self) -> None:
        """Become this user; meant for a child between fork and exec. Raises OSError."""
        if self.capability is not None:
            _call("prctl", _KEEP_CAPABILITIES, 1, 0, 0, 0)
        os.setgroups([])
        os.setgid(self.gid)
        os.setuid(self.uid)
        if self.capability is not None:
            _keep(self.capability)


def for_folders(folders: Sequence[Path]) -> Identity | None:
    """The identity to run as, able to reach `folders`; None when this process is not root.

    Raises PermissionError naming the folder when it cannot be reached.
    """
    if os.geteuid() != 0:
        return None
    user = pwd.getpwnam(_USER)
    closed = [parent for folder in folders for parent in folder.parents if not _open(parent)]
    if not closed:
        return Identity(user.pw_uid, user.pw_gid)
    capability = next((c for c in (_DAC_READ_SEARCH, _DAC_OVERRIDE) if _permitted(c)), None)
    if capability is None:
        raise PermissionError(
            f"PostgreSQL must not run as root, and `{_USER}` may not enter {closed[0]}: run as an "
            "ordinary user, set TURNSTILE_VAR to an open folder, or set TURNSTILE_DATABASE_URL"
        )
    return Identity(user.pw_uid, user.pw_gid, capability)


def before_exec(identity: Identity | None) -> Callable[[], None] | None:
    """What a child has to do before exec to be this identity."""
    return identity.assume if identity else None


def _open(folder: Path) -> bool:
    """May others enter it? One that does not exist yet will be made by us, and asked then."""
    return not folder.exists() or bool(folder.stat().st_mode & 0o001)


def _permitted(capability: int) -> bool:
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith("CapPrm:"):
            return bool(int(line.split()[1], 16) >> capability & 1)
    return False


def _keep(capability: int) -> None:
    header = (ctypes.c_uint32 * 2)(_CAPABILITY_VERSION_3, 0)
    mask = 1 << capability
    data = (ctypes.c_uint32 * 6)(mask, mask, mask, 0, 0, 0)
    _call("capset", header, data)
    _call("prctl", _AMBIENT, _RAISE, capability, 0, 0)


def _call(name: str, *arguments: object) -> None:
    if getattr(_libc, name)(*arguments) != 0:
        raise OSError(ctypes.get_errno(), f"{name} failed")
