"""Functions declared with the SDK's decorators (`beta_tool`, `beta_async_tool`), as tools of the worker."""

from __future__ import annotations

import asyncio
import contextlib
import contextvars
import importlib
import re
import threading
from collections.abc import Callable, Iterable
from functools import partial
from typing import Any

from anthropic.lib.tools import BetaAsyncFunctionTool, BetaFunctionTool, ToolError
from pydantic import ValidationError

from services.agent_worker.session.tools import Function, ToolFailed

NAME = re.compile(r"[A-Za-z0-9_-]{1,128}")
Declared = BetaFunctionTool[Any] | BetaAsyncFunctionTool[Any]


def load(places: str) -> list[Function]:
    """The tools at `package.module:name` places, comma-separated; a name holds one tool or several.

    Raises ValueError that names the place and what to change.
    """
    found: dict[str, Function] = {}
    for place in filter(None, (place.strip() for place in places.split(","))):
        for tool in _at(place):
            if tool.name in found:
                raise ValueError(f"TURNSTILE_TOOLS: {place}: there are two tools {tool.name!r}")
            found[tool.name] = _function(tool, place)
    return list(found.values())


def _at(place: str) -> list[Declared]:
    module, colon, name = place.partition(":")
    if not (module and colon and name):
        raise ValueError(f"TURNSTILE_TOOLS: {place!r} is not package.module:name")
    try:
        value = getattr(importlib.import_module(module), name)
    except AttributeError:
        raise ValueError(f"TURNSTILE_TOOLS: {place}: the module has no {name!r}") from None
    except Exception as error:
        reason = f"{type(error).__name__}: {error}"
        raise ValueError(f"TURNSTILE_TOOLS: {place} can't be imported: {reason}") from error
    tools = list(value) if isinstance(value, Iterable) else [value]
    for tool in tools:
        if not isinstance(tool, BetaFunctionTool | BetaAsyncFunctionTool):
            kind = type(tool).__name__
            words = f"{kind} is no tool: put @beta_tool or @beta_async_tool on the function"
            raise ValueError(f"TURNSTILE_TOOLS: {place}: {words}")
    return tools


def _function(tool: Declared, place: str) -> Function:
    if not NAME.fullmatch(tool.name):
        words = "a name has 1 to 128 letters, digits, _ and -"
        raise ValueError(f"TURNSTILE_TOOLS: {place}: {tool.name!r}: {words}")
    if not tool.description:
        words = "give it a docstring, it is what the agent knows of the tool"
        raise ValueError(f"TURNSTILE_TOOLS: {place}: {tool.name!r}: {words}")
    declaration = {
        "type": "custom",
        "name": tool.name,
        "description": tool.description,
        "input_schema": tool.input_schema,
    }
    if isinstance(tool, BetaAsyncFunctionTool):
        return Function(tool.name, declaration, partial(_in_loop, tool))
    return Function(tool.name, declaration, partial(_in_thread, tool))


def _in_loop(tool: BetaAsyncFunctionTool[Any], given: dict[str, Any]) -> asyncio.Future[Any]:
    async def run() -> Any:
        with _explained():
            return await tool.call(given)

    return asyncio.get_running_loop().create_task(run())


def _in_thread(tool: BetaFunctionTool[Any], given: dict[str, Any]) -> asyncio.Future[Any]:
    """A thread of its own: one that never ends must hold up neither the others nor the end of the process."""
    loop = asyncio.get_running_loop()
    future: asyncio.Future[Any] = loop.create_future()
    context = contextvars.copy_context()

    def run() -> None:
        """Call the tool and hand what it returns or raises to the loop; nothing is raised in this thread."""
        settle: Callable[[], None]
        try:
            with _explained():
                settle = partial(future.set_result, context.run(tool.call, given))
        except Exception as error:
            settle = partial(future.set_exception, error)
        with contextlib.suppress(RuntimeError):  # the loop is closed: nobody waits any more
            loop.call_soon_threadsafe(settle)

    threading.Thread(target=run, name=f"tool {tool.name}", daemon=True).start()
    return future


class _explained:
    """Turns what the SDK raises into words for the agent. A tool that wants to end the process only fails."""

    def __enter__(self) -> None:
        return None

    def __exit__(self, kind: object, error: BaseException | None, trace: object) -> None:
        if isinstance(error, ToolError):
            raise ToolFailed(error.content) from error
        if isinstance(error, ValueError) and isinstance(error.__cause__, ValidationError):
            raise ToolFailed(_wrong_input(error.__cause__)) from error
        if isinstance(error, StopIteration | SystemExit | KeyboardInterrupt):
            raise RuntimeError(f"{type(error).__name__} in a tool") from error


def _wrong_input(error: ValidationError) -> str:
    """Which argument is wrong, and how; without the values."""
    wrong = (f"{'.'.join(map(str, one['loc']))}: {one['msg']}" for one in error.errors())
    return "wrong input: " + "; ".join(wrong)
