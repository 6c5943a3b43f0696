"""Runs one of a leg's own programs as a process: JSON on its stdin, JSON on its stdout."""

from __future__ import annotations

import asyncio
import contextlib
import json
import subprocess
import sys
from asyncio.subprocess import Process
from collections.abc import AsyncIterator, Mapping
from pathlib import Path
from typing import Any

PROJECT = Path(__file__).resolve().parents[2]
READY_S = 30.0
STOP_S = 10.0
TALK_S = 180.0


class ChildError(Exception):
    """A program of the benchmark did not do its part; the message says which and how."""


async def run(module: str, order: Mapping[str, Any], timeout: float) -> dict[str, Any]:
    """Run `python -m module` to its end and return its answer. Raises ChildError.

    The order goes through stdin, because it may hold a key.
    """
    async with _process(module) as process:
        try:
            text, _ = await asyncio.wait_for(
                process.communicate(json.dumps(order).encode()), timeout
            )
        except TimeoutError:
            raise ChildError(f"{module}: no answer within {timeout:.0f} s") from None
        if process.returncode:
            raise ChildError(f"{module}: exit code {process.returncode}; its words are above")
        answer: dict[str, Any] = json.loads(text)
        return answer


@contextlib.asynccontextmanager
async def serving(module: str, order: Mapping[str, Any]) -> AsyncIterator[int]:
    """Run a program that serves until it is ended; yields its pid once it wrote a line."""
    async with _process(module) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        process.stdin.write(json.dumps(order).encode())
        process.stdin.close()
        try:
            line = await asyncio.wait_for(process.stdout.readline(), READY_S)
        except TimeoutError:
            line = b""
        if not line:
            raise ChildError(f"{module}: did not start; its words are above")
        yield process.pid


class Talk:
    """A program that is asked and answers, a line of JSON each."""

    def __init__(self, module: str, process: Process) -> None:
        assert process.stdin is not None
        assert process.stdout is not None
        self._module = module
        self._asking, self._answers = process.stdin, process.stdout

    async def ask(self, question: Mapping[str, Any]) -> dict[str, Any]:
        """Its next answer. Raises ChildError."""
        self._asking.write(json.dumps(question).encode() + b"\n")
        return await self.heard()

    async def heard(self) -> dict[str, Any]:
        """What it says next. Raises ChildError."""
        try:
            line = await asyncio.wait_for(self._answers.readline(), TALK_S)
        except TimeoutError:
            line = b""
        if not line:
            raise ChildError(f"{self._module}: no answer; its words are above")
        answer: dict[str, Any] = json.loads(line)
        return answer


@contextlib.asynccontextmanager
async def talking(module: str, order: Mapping[str, Any]) -> AsyncIterator[Talk]:
    """Run a program that reads lines with `asked`, the order first, until it is ended."""
    async with _process(module) as process:
        assert process.stdin is not None
        process.stdin.write(json.dumps(order).encode() + b"\n")
        yield Talk(module, process)


async def asked() -> dict[str, Any] | None:
    """In a program that is talked to: the next line; None at the end."""
    line = await asyncio.to_thread(sys.stdin.readline)
    return json.loads(line) if line else None


def order() -> dict[str, Any]:
    """In the program: what it was told."""
    told: dict[str, Any] = json.load(sys.stdin)
    return told


def answer(facts: Mapping[str, Any]) -> None:
    """In the program: what it found."""
    sys.stdout.write(json.dumps(facts) + "\n")
    sys.stdout.flush()


@contextlib.asynccontextmanager
async def _process(module: str) -> AsyncIterator[Process]:
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", module),
        cwd=PROJECT,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
    )
    try:
        yield process
    finally:
        if process.returncode is None:
            with contextlib.suppress(ProcessLookupError):
                process.terminate()
            try:
                await asyncio.wait_for(process.wait(), STOP_S)
            except TimeoutError:
                process.kill()
                await process.wait()
