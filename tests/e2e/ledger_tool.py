"""A custom tool for tests, run by the worker: it notes each run in a file and waits until another file is there."""

from __future__ import annotations

import os
from pathlib import Path

from anthropic import beta_async_tool

from services.agent_worker.session.tools import called
from tests.e2e.waiting import eventually

FOLDER = "TURNSTILE_TEST_LEDGER"


@beta_async_tool
async def lookup(query: str) -> str:
    """Look an item up.

    Args:
        query: What to look for.
    """
    call, folder = called.get(), Path(os.environ[FOLDER])
    with (folder / "runs").open("a", encoding="utf-8") as runs:
        runs.write(f"{os.getpid()} {call.session_id} {call.tool_use_id}\n")

    async def may_answer() -> bool:
        return (folder / f"go-{call.session_id}").exists()

    await eventually(may_answer, "leave to answer")
    if "fail" in call.session_id:
        raise LookupError(f"no {query}")
    return f"found {query}"
