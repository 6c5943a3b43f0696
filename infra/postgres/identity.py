"""The user as whom PostgreSQL runs: it refuses to be root, and its `initdb` a user without a name.

Root lends the process to another user, to whom the data folder then belongs. Where that is not
allowed (a container without CAP_SETUID, one user mapped) and for a user whom `/etc/passwd` does
not know, the process keeps its user under another number, in a user namespace of its own.
"""

import ctypes
import os
import pwd
import subprocess
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

_USER = "nobody"
_NEW_USER_NAMESPACE = 0x10000000  # CLONE_NEWUSER
_TIMEOUT_S = 10
_libc = ctypes.CDLL(None, use_errno=True)


@dataclass(frozen=True, slots=True)
class Identity:
    """A user to be before exec: `uid` and `gid` as the program is to see them.

    `renamed`: whoever starts it stays who they are, for files too, and only the numbers change.
    """

    uid: int
    gid: int
    renamed: bool = False

    def assume(self) -> None:
        """Become this user; meant for a child between fork and exec. Raises OSError."""
        if self.renamed:
            _rename(self.uid, self.gid)
            return
        os.setgroups([])
        os.setgid(self.gid)
        os.setuid(self.uid)

    def own(self, folder: Path) -> None:
        """Make the folder this user's."""
        if not self.renamed:
            os.chown(folder, self.uid, self.gid)


def identity_for(folder: Path) -> Identity | None:
    """The identity to run with on data in `folder`; None when this process's own will do.

    Raises PermissionError that says what to do when there is no usable one.
    """
    root = os.geteuid() == 0
    if not root and _entry(os.geteuid()):
        return None
    user = (_owner(folder) if root else None) or _somebody()
    lent = [Identity(user.pw_uid, user.pw_gid)] if root else []
    for identity in (*lent, Identity(user.pw_uid, user.pw_gid, renamed=True)):
        if usable(identity):
            return identity
    whom = "as root" if root else f"as user {os.geteuid()}, who is not in /etc/passwd,"
    raise PermissionError(
        f"PostgreSQL must not run {whom} and this process may become nobody else: run as an "
        "ordinary user, or set TURNSTILE_DATABASE_URL to a server of your own"
    )


def usable(identity: Identity) -> bool:
    """Whether a child of this process may take this identity."""
    try:
        subprocess.run(
            ["/bin/sh", "-c", ":"],
            cwd="/",
            preexec_fn=identity.assume,
            timeout=_TIMEOUT_S,
            check=True,
        )
    except (OSError, subprocess.SubprocessError):
        return False
    return True


def before_exec(identity: Identity | None) -> Callable[[], None] | None:
    """What a child has to do before exec to be this identity."""
    return identity.assume if identity else None


def _owner(folder: Path) -> pwd.struct_passwd | None:
    """The ordinary user whose folder it is already, if so."""
    uid = folder.stat().st_uid if folder.exists() else 0
    return _entry(uid) if uid else None


def _somebody() -> pwd.struct_passwd:
    users = [user for user in pwd.getpwall() if user.pw_uid]
    named = [user for user in users if user.pw_name == _USER]
    if not users:
        raise PermissionError("PostgreSQL needs a user in /etc/passwd that is not root; add one")
    return (named or users)[0]


def _entry(uid: int) -> pwd.struct_passwd | None:
    try:
        return pwd.getpwuid(uid)
    except KeyError:
        return None


def _rename(uid: int, gid: int) -> None:
    was_uid, was_gid = os.geteuid(), os.getegid()
    if _libc.unshare(_NEW_USER_NAMESPACE) != 0:
        raise OSError(ctypes.get_errno(), "unshare failed")
    Path("/proc/self/setgroups").write_text("deny")
    Path("/proc/self/uid_map").write_text(f"{uid} {was_uid} 1")
    Path("/proc/self/gid_map").write_text(f"{gid} {was_gid} 1")
