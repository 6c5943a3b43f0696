"""`python -m tests`: all tiers but chaos, in the time of the longest run; `python -m tests quick`: the unit tests.

Runs of pytest side by side, each on stacks of its own: some wait for processes, the others compute meanwhile. What
a further one says follows what the first has said. With arguments for pytest there is one run of everything.
"""

from __future__ import annotations

import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import BinaryIO

CRASHES = "tests/unit/agent_worker/crashes"
TIERS = ("tests/unit", "tests/contract", "tests/integration", "tests/e2e")


def integration(*subjects: str) -> tuple[str, ...]:
    """The integration tests of these subjects: the first words of their files' names."""
    found = Path("tests/integration").glob("test_*.py")
    return tuple(sorted(str(file) for file in found if file.stem.split("_")[1] in subjects))


def without(folder: str, *files: str) -> tuple[str, ...]:
    return (folder, *(f"--ignore={file}" for file in files))


def end_to_end(*names: str) -> tuple[str, ...]:
    return tuple(f"tests/e2e/test_{name}.py" for name in names)


# Stacks of their own, with other settings or to be broken: these need not share the others' stack.
APART = end_to_end("waits", "worker_tools", "parked")
OUTAGES = end_to_end("bad_burst", "long_outage")
# A shared stack of their own: half of what the end-to-end tests take, which is more than any other run.
FURTHER = end_to_end("agents", "canary", "messages", "openapi", "secrets", "self_hosted", "users")
OF_THE_ARCHIVE = integration("archive", "clickhouse")
OF_THE_GATEWAY = integration("gateway", "grafana", "operator", "documents", "costs")
OF_STARTING = integration("starts", "local")
# What each run is given. The unit tests compute; all others wait more than they compute, so that there are enough
# of them for two cores to have something to do all the while.
ALL = (
    ("tests/contract",),
    (*OF_THE_ARCHIVE, *OUTAGES),
    (*OF_THE_GATEWAY, *OF_STARTING),
    without("tests/integration", *OF_THE_ARCHIVE, *OF_THE_GATEWAY, *OF_STARTING),
    without("tests/e2e", *APART, *OUTAGES, *FURTHER),
    FURTHER,
    ("tests/unit", *APART),
)
QUICK = (
    ("tests/unit", "--ignore=tests/unit/agent_worker"),
    ("tests/unit/agent_worker", f"--ignore={CRASHES}"),
    (CRASHES,),
)
LOOK_S = 0.5
STOP_S = 60.0


def main(arguments: Sequence[str]) -> int:
    """0 when every run ended well, else 1; with arguments pytest's own exit code."""
    if not arguments:
        return side_by_side(ALL)
    if arguments == ["quick"]:
        return side_by_side(QUICK)
    return subprocess.call(pytest(*TIERS, *arguments))


def side_by_side(runs: Sequence[Sequence[str]]) -> int:
    """0 when every run of pytest ended well, else 1."""
    first, *further = runs
    with TemporaryDirectory() as folder, ExitStack() as files:
        others = [begun(run, Path(folder) / str(n), files) for n, run in enumerate(further)]
        print(
            f"{len(others)} more runs beside that of {first[0]}; what they say follows", flush=True
        )
        running = [subprocess.Popen(pytest(*first)), *(process for process, _ in others)]
        hand_on(signal.SIGTERM, *running)
        try:
            running[0].wait()
            for process, said in others:
                follow(process, said)
        except KeyboardInterrupt:
            print("stopping", flush=True)
        finally:
            for process in running:
                stop(process)
    return int(any(process.returncode for process in running))


def begun(
    run: Sequence[str], file: Path, files: ExitStack
) -> tuple[subprocess.Popen[bytes], BinaryIO]:
    """A run of pytest, and what it says, read from `file` until `files` are closed."""
    with file.open("wb") as said:
        process = subprocess.Popen(pytest(*run), stdout=said, stderr=subprocess.STDOUT)
    return process, files.enter_context(file.open("rb"))


def pytest(*arguments: str) -> list[str]:
    """The command line of a run."""
    return [sys.executable, "-m", "pytest", *arguments]


def follow(process: subprocess.Popen[bytes], said: BinaryIO) -> None:
    """Print what the process has said and says until it ends."""
    while True:
        ended = process.poll() is not None
        sys.stdout.buffer.write(said.read())
        sys.stdout.buffer.flush()
        if ended:
            return
        time.sleep(LOOK_S)


def hand_on(number: int, *processes: subprocess.Popen[bytes]) -> None:
    """From now on the signal ends this process like Ctrl-C, which a terminal tells the others itself: their stacks
    are stopped too."""

    def tell(_number: int, _frame: object) -> None:
        for process in processes:
            process.send_signal(signal.SIGINT)
        raise KeyboardInterrupt

    signal.signal(number, tell)


def stop(process: subprocess.Popen[bytes]) -> None:
    """Wait for the process, which was asked to end; killed when it takes too long."""
    try:
        process.wait(STOP_S)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
