"""A part of the stack: one process, with how it is started, probed and ended."""

import signal
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from infra.postgres.identity import Identity

Say = Callable[[str], None]
"""Prints one line of progress for the user."""


class NotReady(Exception):
    """A part does not answer properly yet; the message says how it fell short."""


@dataclass(frozen=True, slots=True)
class Part:
    """One process of the stack.

    `command` prepares what the process needs (it may take long, and runs in a thread) and returns
    its command line. `ready` returns when the part serves, else raises NotReady or OSError.
    `ports` maps each port that must be free to the variable that sets it. `folder` is where it is
    started, None where we are. Times are seconds.
    """

    name: str
    command: Callable[[Say], list[str]]
    ready: Callable[[], Awaitable[None]]
    environment: Mapping[str, str] = field(repr=False)
    ports: Mapping[int, str] = field(default_factory=dict)
    identity: Identity | None = None
    folder: Path | None = None
    stop_signal: signal.Signals = signal.SIGTERM
    stop_timeout: float = 15.0
    start_timeout: float = 60.0
