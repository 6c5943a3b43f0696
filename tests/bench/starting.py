"""Leg `start`: how long `make up` takes until it is ready, and the imports of each of our processes.

The first start of a folder makes the database cluster, topics and tables; a later one finds them.
"""

from __future__ import annotations

import asyncio
import os
import resource
import sys
import tempfile
import time
from pathlib import Path
from statistics import median
from typing import Any

from infra.local.settings import own_settings
from tests.bench.child import PROJECT, ChildError
from tests.bench.options import Options

MAINS = ("services.agent_worker.main", "services.gateway.main", "services.recorder.main")
START_S, STOP_S = 120.0, 60.0
GOALS = {"ready s": 6.0, "import s": 1.0}


async def measure(options: Options, rounds: int) -> dict[str, Any]:
    """Medians, in seconds. Raises ChildError when the stack does not start."""
    first, later = [], []
    for _ in range(rounds):
        with tempfile.TemporaryDirectory(prefix="turnstile-bench-") as folder:
            environment = _environment(Path(folder))
            first.append(await _ready(environment))
            later.append(await _ready(environment))
        options.say(f"  ready after {first[-1]:.1f} s at first, {later[-1]:.1f} s later")
    imports = {name: [await _imported(name) for _ in range(rounds)] for name in MAINS}
    return {
        "make up, a new folder: ready s": round(median(first), 2),
        "make up, again: ready s": round(median(later), 2),
        **{
            f"{name}: import s, of it processor s": [
                round(median(one[place] for one in found), 2) for place in (0, 1)
            ]
            for name, found in imports.items()
        },
        "goals": GOALS,
        "load": os.getloadavg()[0],
    }


def _environment(root: Path) -> dict[str, str]:
    settings = own_settings(root)
    ports = {f"TURNSTILE_{part.upper()}_PORT": str(port) for part, port in settings.ports.items()}
    return {**settings.environment, **ports}


async def _ready(environment: dict[str, str]) -> float:
    """Seconds from the start of the process until it says that it is ready; it is stopped then."""
    began = time.monotonic()
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "infra.local", "up"),
        cwd=PROJECT,
        env=environment,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.DEVNULL,
    )
    try:
        assert process.stdout is not None
        line = await asyncio.wait_for(process.stdout.readline(), START_S)
        seconds = time.monotonic() - began
        if not line.startswith(b"ready "):
            raise ChildError("the stack did not start")
        return seconds
    finally:
        if process.returncode is None:
            process.terminate()
        await asyncio.wait_for(process.wait(), STOP_S)


async def _imported(module: str) -> tuple[float, float]:
    """Wall and processor seconds of a process that imports the module and ends."""
    began, before = time.monotonic(), resource.getrusage(resource.RUSAGE_CHILDREN)
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-c", f"import {module}", cwd=PROJECT
    )
    if await process.wait():
        raise ChildError(f"{module} can't be imported")
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    used = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    return time.monotonic() - began, used
