"""The answers of a turn, one after the other: what of a script's plan is played in messages.

A turn begins with the newest user message that says something. Each answer of the model to it takes the turn one
reply further: one with calls, one that is cut short or paused, and the last one, which ends it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import msgspec

from infra.simulator.messages.check import Checked
from infra.simulator.messages.prompt import merged
from infra.simulator.messages.request import (
    CustomTool,
    MessageRequest,
    NoTool,
    ServerToolUse,
    ToolResult,
)
from infra.simulator.play.plan import Failure, Plan, Request, Say, UseCustomTool, UseTool

JSON = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Turn:
    """Where a conversation stands: what the user said last, and how often the model has answered since."""

    content: list[JSON]
    answered: int
    pending: str | None  # the call of the provider's own that a paused answer ended with


@dataclass(frozen=True, slots=True)
class Reply:
    """One answer, and the requests that fail before it comes."""

    request: Request
    failures: tuple[Failure, ...] = ()
    from_end: int = 1


def turn_of(request: MessageRequest) -> Turn:
    """The turn that the next answer belongs to."""
    runs = merged(request.messages)
    start, content = 0, list[msgspec.Struct]()
    for at, (role, blocks) in enumerate(runs):
        said: list[msgspec.Struct] = [b for b in blocks if not isinstance(b, ToolResult)]
        if role == "user" and said:
            start, content = at, said
    since = runs[start + 1 :]
    pauses = sum(isinstance(block, ServerToolUse) for _, blocks in since for block in blocks)
    answers = sum(role == "user" for role, _ in since)
    last = runs[-1][1][-1]
    pending = last.id if runs[-1][0] == "assistant" and isinstance(last, ServerToolUse) else None
    return Turn([msgspec.to_builtins(block) for block in content], pauses + answers, pending)


def usable(request: MessageRequest, checked: Checked) -> tuple[CustomTool, ...]:
    """The client's tools that the model may call now."""
    return () if isinstance(request.tool_choice, NoTool) else checked.tools


def reply_at(plan: Plan, number: int, *, tools: bool, searches: bool) -> Reply:
    """The answer with this number, from 0. What comes after the last one is the last one again.

    A request whose only purpose is calls that nobody offered is left out.
    """
    replies: list[Reply] = []
    failures: list[Failure] = []
    for at, request in enumerate(plan.requests):
        if request.failure is not None:
            failures.append(request.failure)
        elif at == len(plan.requests) - 1 or _counts(request, tools, searches):
            replies.append(Reply(request, tuple(failures)))
            failures = []
    if failures or not replies:
        replies.append(Reply(Request((Say(),)), tuple(failures)))
    at = min(number, len(replies) - 1)
    found = replies[at]
    return Reply(found.request, found.failures if at == number else (), len(replies) - at)


def _counts(request: Request, tools: bool, searches: bool) -> bool:
    calls = any(isinstance(step, UseTool | UseCustomTool) for step in request.steps)
    return (calls and tools) or request.cut_short or (request.pauses and searches)


def tool_for(step: UseTool | UseCustomTool, number: int, tools: Sequence[CustomTool]) -> CustomTool:
    """The tool that is called: the one of that name, or any."""
    named = [tool for tool in tools if tool.name == step.name]
    return named[0] if named else tools[number % len(tools)]


def input_for(step: UseTool | UseCustomTool, tool: CustomTool) -> JSON:
    """What it is called with: what the script says where the tool takes it, and what its schema requires."""
    properties: JSON = tool.input_schema.get("properties") or {}
    wanted = {name: value for name, value in step.input.items() if name in properties}
    for name in tool.input_schema.get("required") or ():
        if name not in wanted:
            wanted[name] = _sample(properties.get(name) or {})
    if not properties and tool.input_schema.get("additionalProperties", True):
        return dict(step.input)
    return wanted


def _sample(schema: JSON) -> Any:
    if schema.get("enum"):
        return schema["enum"][0]
    kinds = {"string": "something", "integer": 1, "number": 1, "boolean": True, "array": []}
    return kinds.get(str(schema.get("type")), {})
