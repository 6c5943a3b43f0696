"""Processes beside one another: they stop together, and none outlives the one that it was forked from."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

pytestmark = pytest.mark.unit

ROOT = Path(__file__).parents[3]
# Each process says its pid and a number by chance before it does what it is to do; what ends by itself waits for a
# line on the input.
PROGRAM = """
import asyncio, os, random, sys
from shared.process import run_several
from shared.settings import ProcessSettings
from shared.span_light import _bits

def work(name, then):
    async def do(settings, stopping):
        os.write(1, f"{{name}} {{os.getpid()}} {{_bits(64)}}\\n".encode())
        await then(stopping)
    return do

async def waits(stopping):
    await stopping.wait()

async def told():
    await asyncio.to_thread(sys.stdin.readline)

async def breaks(stopping):
    await told()
    raise RuntimeError("out of paper")

async def ends(stopping):
    await told()

def works(settings):
    return {{"first": work("first", {first}), "second": work("second", {second})}}

sys.exit(run_several("recorder", "Tries one thing.", ProcessSettings, works))
"""


class Family:
    """A program of two processes that run."""

    def __init__(self, first: str = "waits", second: str = "waits") -> None:
        environment = {**os.environ, "OTEL_EXPORTER_OTLP_ENDPOINT": "http://127.0.0.1:9"}
        self.process = subprocess.Popen(
            [sys.executable, "-c", PROGRAM.format(first=first, second=second)],
            cwd=ROOT,
            env=environment,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        assert self.process.stdout is not None
        lines = [self.process.stdout.readline().split() for _ in range(2)]
        self.pids = {name: int(pid) for name, pid, _ in lines}
        self.chances = {chance for *_, chance in lines}

    def ended(self) -> tuple[int, list[str]]:
        """The exit code and the events of the log; the output ends only when both processes are gone."""
        _, said = self.process.communicate("go on\n", timeout=30)
        return self.process.returncode, [json.loads(line)["event"] for line in said.splitlines()]


def test_they_stop_together() -> None:
    family = Family()
    assert family.pids["first"] == family.process.pid != family.pids["second"]
    assert len(family.chances) == 2  # ids that one makes are not made by the other too
    family.process.terminate()
    code, said = family.ended()
    assert (code, sorted(said)) == (0, ["stopped", "stopped", "stopping", "stopping"])


@pytest.mark.parametrize("second", ["ends", "breaks"])
def test_one_that_ends_by_itself_ends_all_of_them_as_broken(second: str) -> None:
    code, said = Family(second=second).ended()
    assert code == 1
    assert {"process_ended", "broke"} <= set(said)


def test_what_breaks_in_the_first_stops_the_others() -> None:
    code, said = Family(first="breaks").ended()
    assert code == 1
    assert "broke" in said


def test_a_killed_one_ends_all_of_them() -> None:
    family = Family()
    os.kill(family.pids["second"], signal.SIGKILL)
    assert family.ended()[0] == 1


def test_none_outlives_a_first_one_that_is_killed() -> None:
    family = Family()
    family.process.kill()
    assert family.ended()[0] == -signal.SIGKILL
