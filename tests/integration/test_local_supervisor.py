"""`python -m infra.local`, run as its users do: in a process of its own, with one quick part."""

import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from infra.local.folders import Folders
from infra.local.ports import free_ports
from infra.local.processes import alive, read_pid
from tests.stack import PROJECT, temporary_root

pytestmark = pytest.mark.integration
_DEADLINE_S = 30.0


@pytest.fixture
def root() -> Iterator[Path]:
    with temporary_root() as folder:
        yield folder


@pytest.fixture
def environment(root: Path) -> dict[str, str]:
    clean = {name: value for name, value in os.environ.items() if "TURNSTILE" not in name}
    port = str(free_ports(1)[0])
    return {**clean, "TURNSTILE_VAR": str(root), "TURNSTILE_POSTGRES_PORT": port}


@contextmanager
def up(environment: dict[str, str]) -> Iterator["subprocess.Popen[str]"]:
    """A supervisor with PostgreSQL only, ready on entry, gone on exit."""
    process = subprocess.Popen(
        _command("up", "--only", "postgres"),
        cwd=PROJECT,
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    try:
        assert process.stdout is not None
        assert process.stdout.readline().startswith("ready gateway=")
        yield process
    finally:
        if process.poll() is None:
            process.terminate()
        process.communicate(timeout=_DEADLINE_S)


def run(environment: dict[str, str], *arguments: str) -> "subprocess.CompletedProcess[str]":
    return subprocess.run(
        _command(*arguments),
        cwd=PROJECT,
        env=environment,
        capture_output=True,
        text=True,
        timeout=_DEADLINE_S,
        check=False,
    )


def test_stops_its_parts_and_removes_their_pid_files(
    environment: dict[str, str], root: Path
) -> None:
    with up(environment) as supervisor:
        pid = read_pid(Folders(root).pid_file("postgres"))
        assert pid is not None
        assert alive(pid)
        supervisor.send_signal(signal.SIGINT)
        assert supervisor.wait(_DEADLINE_S) == 0
    assert not alive(pid)
    assert not Folders(root).pid_file("postgres").exists()


def test_a_killed_part_comes_back_under_a_new_pid(environment: dict[str, str], root: Path) -> None:
    pid_file = Folders(root).pid_file("postgres")
    with up(environment):
        former = read_pid(pid_file)
        assert former is not None
        os.kill(former, signal.SIGKILL)
        until(lambda: read_pid(pid_file) not in (None, former))
        until(lambda: "ready" in run(environment, "status").stdout)


def test_parts_do_not_outlive_a_killed_supervisor(environment: dict[str, str], root: Path) -> None:
    with up(environment) as supervisor:
        pid = read_pid(Folders(root).pid_file("postgres"))
        assert pid is not None
        supervisor.kill()
        until(lambda: not alive(pid))
    assert run(environment, "down").returncode == 0
    assert not Folders(root).pid_file("postgres").exists()


def test_a_held_part_stays_away_until_released(environment: dict[str, str], root: Path) -> None:
    with up(environment):
        assert run(environment, "stop", "postgres").returncode == 0
        assert "held" in run(environment, "status").stdout
        assert not Folders(root).pid_file("postgres").exists()
        assert run(environment, "start", "postgres").returncode == 0
        assert "ready" in run(environment, "status").stdout


def test_a_second_stack_in_one_folder_is_refused(environment: dict[str, str]) -> None:
    with up(environment) as supervisor:
        second = run(environment, "up", "--only", "postgres")
    assert second.returncode == 1
    assert f"process {supervisor.pid} (" in second.stderr
    assert "TURNSTILE_VAR" in second.stderr


def test_a_port_in_use_names_part_holder_and_variable(environment: dict[str, str]) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = str(taken.getsockname()[1])
        refused = run({**environment, "TURNSTILE_POSTGRES_PORT": port}, "up", "--only", "postgres")
    assert refused.returncode == 1
    assert f"port {port}, wanted by postgres, is in use by process {os.getpid()}" in refused.stderr
    assert "TURNSTILE_POSTGRES_PORT" in refused.stderr


def test_down_ends_a_running_stack(environment: dict[str, str], root: Path) -> None:
    with up(environment) as supervisor:
        assert run(environment, "down").returncode == 0
        assert supervisor.wait(_DEADLINE_S) == 0
    assert run(environment, "clean").returncode == 0
    assert list(root.iterdir()) == []


def test_clean_leaves_a_running_stack_and_strange_folders_alone(
    environment: dict[str, str], root: Path
) -> None:
    (root / "strange").mkdir()
    assert "not made by this stack" in run(environment, "clean").stderr
    with up(environment):
        assert "make down" in run(environment, "clean").stderr
    assert (root / "strange").exists()


def until(true: Callable[[], bool]) -> None:
    deadline = time.monotonic() + _DEADLINE_S
    while not true():
        assert time.monotonic() < deadline
        time.sleep(0.02)


def _command(*arguments: str) -> list[str]:
    return [sys.executable, "-m", "infra.local", *arguments]
