"""`python -m tests`: all tiers but chaos, in the time of the longest.

The end-to-end tests mostly wait for processes, the others compute: two runs side by side, on stacks of their own.
What the second says follows what the first has said. With arguments for pytest there is one run of everything.
"""

from __future__ import annotations

import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import BinaryIO

FIRST = ("tests/unit", "tests/contract", "tests/integration")
BESIDE = ("tests/e2e",)
LOOK_S = 0.5
STOP_S = 60.0


def main(arguments: Sequence[str]) -> int:
    """0 when every run ended well, else 1; with arguments pytest's own exit code."""
    if arguments:
        return subprocess.call(pytest(*FIRST, *BESIDE, *arguments))
    with tempfile.NamedTemporaryFile() as said, Path(said.name).open("rb") as reading:
        print("the end-to-end tests run beside the others; their output follows", flush=True)
        beside = subprocess.Popen(pytest(*BESIDE), stdout=said, stderr=subprocess.STDOUT)
        first = subprocess.Popen(pytest(*FIRST))
        hand_on(signal.SIGTERM, first, beside)
        try:
            first.wait()
            follow(beside, reading)
        except KeyboardInterrupt:
            print("stopping", flush=True)
        finally:
            stop(first)
            stop(beside)
    return 0 if first.returncode == beside.returncode == 0 else 1


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
