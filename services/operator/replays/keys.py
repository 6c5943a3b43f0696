"""Pauses of a replay by the space bar; without a terminal it goes on."""

from __future__ import annotations

import os
import select
import sys
import termios
import time
import tty
from collections.abc import Iterator
from contextlib import contextmanager

HINT = "space or enter: pause and go on; n: the next event; q: leave"
_PAUSE, _NEXT, _LEAVE = frozenset(" \r\n"), frozenset("n"), frozenset("qQ\x04")


class Left(Exception):
    """The person has seen enough."""


class Keys:
    """Waits between events, and listens meanwhile. `descriptor` is a terminal in cbreak mode, or None."""

    def __init__(self, descriptor: int | None) -> None:
        self._descriptor = descriptor
        self.paused = False

    def wait(self, seconds: float) -> None:
        """Let `seconds` pass; while it is paused, wait for a key. Raises Left."""
        if self._descriptor is None:
            time.sleep(seconds)
            return
        ends = time.monotonic() + seconds
        while True:
            left = None if self.paused else max(0.0, ends - time.monotonic())
            key = self._pressed(left)
            if not key:
                return
            if key in _LEAVE:
                raise Left
            if key in _NEXT:
                self.paused = True
                return
            if key in _PAUSE:
                self.paused = not self.paused

    def _pressed(self, seconds: float | None) -> str:
        """The next key within `seconds` (None: however long it takes); "" for none."""
        assert self._descriptor is not None
        if not select.select([self._descriptor], [], [], seconds)[0]:
            return ""
        return os.read(self._descriptor, 1).decode("latin-1") or "q"


@contextmanager
def listening() -> Iterator[Keys]:
    """Keys of this process's terminal; the terminal is as it was afterwards."""
    if not (sys.stdin.isatty() and sys.stdout.isatty()):
        yield Keys(None)
        return
    descriptor = sys.stdin.fileno()
    before = termios.tcgetattr(descriptor)
    tty.setcbreak(descriptor)
    try:
        yield Keys(descriptor)
    finally:
        termios.tcsetattr(descriptor, termios.TCSADRAIN, before)
