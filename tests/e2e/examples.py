"""Code examples of a document, cut out as they stand, so that what readers copy is what is tested."""

from __future__ import annotations

import asyncio
import os
import re
from collections.abc import Mapping

from tests.stack import PROJECT

_BLOCK = r"```{language}\n(.*?)```"


def example(document: str, name: str) -> str:
    """The block below the marker `<!-- example: NAME -->` of a document of the project."""
    mark = re.escape(f"<!-- example: {name} -->")
    [code] = re.findall(rf"^{mark}\n```\w+\n(.*?)```", _text(document), re.DOTALL | re.MULTILINE)
    return str(code)


def blocks(document: str, language: str) -> list[str]:
    """All code blocks of exactly that language (the words behind the fence), in order."""
    pattern = rf"^{_BLOCK.format(language=re.escape(language))}"
    return re.findall(pattern, _text(document), re.DOTALL | re.MULTILINE)


async def run(*argv: str, timeout: float = 60.0, **environment: str) -> str:
    """What a command prints on standard output. AssertionError with all it said when it fails.

    It gets PATH, HOME and `environment`, nothing of the test's own.
    """
    inherited = {name: os.environ[name] for name in ("PATH", "HOME") if name in os.environ}
    process = await asyncio.create_subprocess_exec(
        *argv,
        env={**inherited, **environment},
        stdin=asyncio.subprocess.DEVNULL,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )
    try:
        out, err = await asyncio.wait_for(process.communicate(), timeout)
    except TimeoutError:
        process.kill()
        await process.wait()
        raise
    assert process.returncode == 0, f"{argv}: {process.returncode}\n{out.decode()}\n{err.decode()}"
    return out.decode()


def filled(code: str, changes: Mapping[str, str]) -> str:
    """The code with a reader's own values in place of the document's; each must occur."""
    for shown, own in changes.items():
        assert shown in code, f"{shown!r} is not in the example any more"
        code = code.replace(shown, own)
    return code


def _text(document: str) -> str:
    return (PROJECT / document).read_text(encoding="utf-8")
