"""Processor time of a process, and whether the machine has come to rest (from /proc)."""

from __future__ import annotations

import asyncio
import os
import time
from collections.abc import Iterable
from pathlib import Path

_TICK = os.sysconf("SC_CLK_TCK")
_LOOK_S = 0.5


def cpu_seconds(pid: int) -> float:
    """User and system time of a process since its start; 0 when it is gone."""
    try:
        text = Path(f"/proc/{pid}/stat").read_text()
    except OSError:
        return 0.0
    fields = text.rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / _TICK


def family_seconds(pid: int) -> float:
    """The same of a process and all that it started and that still run."""
    children = Path(f"/proc/{pid}/task").glob("*/children")
    found = [int(child) for path in children for child in path.read_text().split()]
    return cpu_seconds(pid) + sum(map(family_seconds, found))


async def settled(pids: Iterable[int], share: float = 0.15, timeout: float = 30.0) -> bool:
    """Wait until these processes together use less than `share` of one core; False: they never did.

    What a round leaves behind (rows written behind, merges, idle streams) must not be paid by the
    next one.
    """
    watched = list(pids)
    deadline = time.monotonic() + timeout
    while time.monotonic() < deadline:
        before = sum(map(cpu_seconds, watched))
        await asyncio.sleep(_LOOK_S)
        if sum(map(cpu_seconds, watched)) - before < share * _LOOK_S:
            return True
    return False
