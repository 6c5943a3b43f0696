"""The processes that a process has started, and a pause of one of them."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path


def children_of(pid: int) -> list[int]:
    """The pids of its children now; none of a process that is gone."""
    try:
        words = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
    except OSError:
        return []
    return [int(word) for word in words]


def send(pids: Iterable[int], number: signal.Signals) -> None:
    """Send a signal to those that are there."""
    for pid in pids:
        with suppress(ProcessLookupError):
            os.kill(pid, number)


@contextmanager
def paused(*pids: int) -> Iterator[Callable[[], None]]:
    """They stand still inside the block, until its end or a call of what it is given."""
    send(pids, signal.SIGSTOP)
    try:
        yield lambda: send(pids, signal.SIGCONT)
    finally:
        send(pids, signal.SIGCONT)
