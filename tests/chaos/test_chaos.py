"""The short profile: three minutes of kills, pauses and restarts of every part, under load and provider faults.

`make chaos` runs the same; this is for those who want it among their tests (`pytest tests/chaos`).
"""

from __future__ import annotations

import asyncio
import json
import sys
from pathlib import Path

import pytest

from tests.chaos.judge import KINDS

pytestmark = [pytest.mark.chaos, pytest.mark.timeout(900)]


async def test_every_promise_is_kept_whatever_dies(tmp_path: Path) -> None:
    figures = tmp_path / "figures.json"
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "tests.chaos", "--seed", "1", "--duration", "180"),
        *("--json", str(figures)),
    )
    try:
        code = await process.wait()
    finally:
        if process.returncode is None:
            process.terminate()
            await process.wait()
    told = json.loads(figures.read_text())
    found = {kind: told["figures"][kind] for kind in KINDS}
    assert found == dict.fromkeys(KINDS, 0), told["findings"]
    assert (code, told["quiet"]) == (0, "")
    assert told["figures"]["turns accepted"] > 50, "the load went on"
