"""Programs that read the gateway's documents, each with packages of its own that the project does not have.

Node's come from `typescript/package-lock.json` into the user's cache folder, Python's client generator through uv.
A test that needs one is skipped, saying so, where Node is missing or a registry can't be reached.
"""

from __future__ import annotations

import asyncio
import os
import shutil
from asyncio.subprocess import DEVNULL, PIPE
from contextlib import suppress
from hashlib import sha256
from pathlib import Path

import pytest

from infra.local.settings import cache_folder
from tests.stack import PROJECT

TYPESCRIPT = Path(__file__).with_name("typescript")
GENERATOR = "openapi-python-client==0.29.1"
# What the generator needs is taken as it stood on this day.
AS_OF = "2026-11-28"
FETCH_S = 240.0
RUN_S = 120.0
_AWAY = (
    "ENOTFOUND",
    "EAI_AGAIN",
    "ECONNREFUSED",
    "ECONNRESET",
    "ETIMEDOUT",
    "error sending request",
)


async def run(*argv: str | Path, cwd: Path = PROJECT, timeout: float = RUN_S, **more: str) -> str:
    """What the program prints. AssertionError with both of its outputs when it fails, TimeoutError (the program is
    killed) after `timeout` seconds."""
    process = await asyncio.create_subprocess_exec(
        *argv, cwd=cwd, env={**os.environ, **more}, stdin=DEVNULL, stdout=PIPE, stderr=PIPE
    )
    try:
        async with asyncio.timeout(timeout):
            printed, said = await process.communicate()
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()
    assert process.returncode == 0, f"{argv[0]}: {printed.decode()[-6000:]}{said.decode()[-3000:]}"
    return printed.decode()


async def node_packages() -> Path:
    """The `node_modules` of the lock file, fetched once for each version of it."""
    if shutil.which("node") is None or shutil.which("npm") is None:
        pytest.skip("node and npm are not on this machine")
    lock = TYPESCRIPT / "package-lock.json"
    folder = cache_folder(os.environ) / "clients" / sha256(lock.read_bytes()).hexdigest()[:16]
    if not folder.exists():
        draft = folder.with_name(f"{folder.name}.{os.getpid()}")
        draft.mkdir(parents=True)
        for name in ("package.json", "package-lock.json"):
            shutil.copy(TYPESCRIPT / name, draft)
        try:
            await _fetched("npm", "ci", "--ignore-scripts", "--no-audit", "--no-fund", cwd=draft)
            with suppress(OSError):  # somebody else was quicker
                draft.rename(folder)
        finally:
            shutil.rmtree(draft, ignore_errors=True)
    return folder / "node_modules"


async def python_generator() -> tuple[str, ...]:
    """The beginning of a command line in the environment of the Python client generator."""
    uv = (await run("sh", "infra/local/uv.sh")).strip()
    command = (uv, "tool", "run", "--exclude-newer", AS_OF, "--from", GENERATOR)
    await _fetched(*command, "openapi-python-client", "--version")
    return command


async def _fetched(*argv: str, cwd: Path = PROJECT) -> None:
    try:
        await run(*argv, cwd=cwd, timeout=FETCH_S)
    except TimeoutError:
        pytest.skip(f"{argv[0]}: the registry does not answer within {FETCH_S:.0f} s")
    except AssertionError as error:
        if any(word in str(error) for word in _AWAY):
            pytest.skip(f"{argv[0]}: the registry can't be reached")
        raise
