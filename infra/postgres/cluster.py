"""The embedded PostgreSQL: its cluster made, its process started.

TCP on 127.0.0.1 only, no unix socket, every local connection trusted as user `postgres`. Stop
with SIGINT ("fast": sessions are closed, data is checkpointed); after a hard kill it recovers by
itself.

The programs work in the data folder and name it by where they are, never by its path: they may be
another user's, who cannot pass through the folders above it.
"""

import shutil
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from infra.postgres.binaries import VERSION, binaries
from infra.postgres.identity import Identity, before_exec, identity_for

USER = "postgres"
_HERE = "/proc/self/cwd"
_INITDB_TIMEOUT_S = 60
# After a hard kill the server makes sure that all its files are on the disk before it reads its log. File by file
# that takes seconds, of which sessions wait each; Linux can be asked to do it for all at once.
_FAST_RECOVERY = {"recovery_init_sync_method": "syncfs"} if sys.platform == "linux" else {}


@dataclass(frozen=True, slots=True)
class Cluster:
    """One server. `durable=False` trades safety after a power cut for speed: tests only."""

    folder: Path
    port: int
    durable: bool = True

    def url(self, database: str = "postgres") -> str:
        """The SQLAlchemy URL (asyncpg) of one of its databases."""
        return f"postgresql+asyncpg://{USER}@127.0.0.1:{self.port}/{database}"


def identity(cluster: Cluster) -> Identity | None:
    """As whom this cluster runs; see infra.postgres.identity. Raises PermissionError."""
    return identity_for(cluster.folder)


def command(cluster: Cluster) -> list[str]:
    """The command line, to be started in the cluster's folder; the process is the postmaster itself.

    Raises RuntimeError when the binaries cannot be had.
    """
    settings = {
        "shared_buffers": "32MB",
        "max_connections": "200",
        "unix_socket_directories": "",
        "listen_addresses": "127.0.0.1",
        "fsync": "on" if cluster.durable else "off",
        "synchronous_commit": "on" if cluster.durable else "off",
        **_FAST_RECOVERY,
        # PostgreSQL leaves names of others alone. So the command line says whose process it is.
        "turnstile.folder": str(cluster.folder.absolute()),
    }
    options = [word for name, value in settings.items() for word in ("-c", f"{name}={value}")]
    postgres = binaries(identity(cluster)) / "postgres"
    return [str(postgres), "-D", _HERE, "-p", str(cluster.port), *options]


def prepare(cluster: Cluster, environment: Mapping[str, str]) -> None:
    """Make the data folder unless it is there.

    Raises RuntimeError with initdb's words, or when the folder is another version's.
    """
    marker = cluster.folder / "PG_VERSION"
    if marker.exists():
        _require_version(marker)
        return
    # Made beside its place and then renamed: a start cut short leaves no half-made folder.
    draft = cluster.folder.absolute().with_name(cluster.folder.name + ".new")
    shutil.rmtree(draft, ignore_errors=True)
    draft.mkdir(mode=0o700, parents=True)
    _initdb(draft, identity(cluster), environment)
    draft.rename(cluster.folder)


def _initdb(folder: Path, who: Identity | None, environment: Mapping[str, str]) -> None:
    if who:
        who.own(folder)
    initdb = [str(binaries(who) / "initdb"), "-D", _HERE]
    done = subprocess.run(
        [*initdb, "-U", USER, "-A", "trust", "-E", "UTF8", "--locale=C.UTF-8", "--no-sync"],
        capture_output=True,
        text=True,
        timeout=_INITDB_TIMEOUT_S,
        env=dict(environment),
        cwd=folder,
        preexec_fn=before_exec(who),
        check=False,
    )
    if done.returncode:
        raise RuntimeError(f"postgres: initdb failed: {done.stdout}{done.stderr}")


def _require_version(marker: Path) -> None:
    found = marker.read_text().strip()
    if found != str(VERSION):
        raise RuntimeError(
            f"postgres: {marker.parent} was made by PostgreSQL {found}, this is {VERSION}: "
            "move it away (or `make clean`), or set TURNSTILE_DATABASE_URL to a server of your own"
        )
