"""Agents of the Messages API: a folder of `NAME.md`, front matter and system prompt, read once at the start."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Annotated, Any, Literal

import msgspec
import yaml
from msgspec import Meta, Struct

NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,99}")
FENCE = "---"
Json = dict[str, Any]


class Agent(Struct, frozen=True, kw_only=True, omit_defaults=True):
    """What a conversation is held with. It keeps the agent that it was opened with, whatever becomes of the file:
    thinking holds only behind the system prompt and the tools that it was made behind."""

    name: str
    model: str
    system: str = ""
    max_tokens: int = 8_192
    tools: tuple[Json, ...] = ()
    thinking: Json | None = None
    effort: str | None = None


class _Tool(Struct, forbid_unknown_fields=True):
    name: Annotated[str, Meta(pattern=r"^[A-Za-z0-9_-]{1,128}$")]
    description: Annotated[str, Meta(min_length=1)]
    input_schema: Json
    type: Literal["custom"] = "custom"


class _File(Struct, forbid_unknown_fields=True):
    """The front matter."""

    runtime: Literal["messages"]
    model: Annotated[str, Meta(min_length=1)] | None = None
    description: str = ""
    max_tokens: Annotated[int, Meta(ge=1)] = 8_192
    tools: list[str | _Tool] = []
    thinking: Json | None = None
    effort: Literal["low", "medium", "high", "xhigh", "max"] | None = None


def load(folder: str, model: str, functions: Iterable[Json]) -> dict[str, Agent]:
    """The agents of a folder by name; `model` is that of files that name none, `functions` are declarations of the
    worker's own tools, which a file lists by their names. Raises ValueError that names the file and the field."""
    known = {str(declared["name"]): declared for declared in functions}
    found: dict[str, Agent] = {}
    paths = sorted(Path(folder).glob("*.md"))
    for path in paths:
        if path.name == "README.md":
            continue
        try:
            found[path.stem] = _agent(path, model, known)
        except (OSError, UnicodeDecodeError, yaml.YAMLError, ValueError) as error:
            raise ValueError(f"TURNSTILE_MESSAGES_AGENTS: {path}: {error}") from error
    if not found:
        raise ValueError(f"TURNSTILE_MESSAGES_AGENTS: {folder} has no agent (NAME.md)")
    return found


def _agent(path: Path, model: str, functions: Mapping[str, Json]) -> Agent:
    if not NAME.fullmatch(path.stem):
        raise ValueError("the file's name is the agent's: letters, digits and ._- only")
    front, system = _parts(path.read_text(encoding="utf-8"))
    fields = msgspec.convert(yaml.safe_load(front) or {}, _File)
    return Agent(
        name=path.stem,
        model=fields.model or model,
        system=system,
        max_tokens=fields.max_tokens,
        tools=tuple(_tool(tool, functions) for tool in fields.tools),
        thinking=fields.thinking,
        effort=fields.effort,
    )


def _parts(text: str) -> tuple[str, str]:
    lines = text.removeprefix("\ufeff").splitlines()
    if not lines or lines[0].rstrip() != FENCE:
        raise ValueError(f"must begin with front matter: a line {FENCE}, fields, a line {FENCE}")
    for place, line in enumerate(lines[1:], 1):
        if line.rstrip() == FENCE:
            return "\n".join(lines[1:place]), "\n".join(lines[place + 1 :]).strip()
    raise ValueError(f"the front matter has no end: a line {FENCE}")


def _tool(tool: str | _Tool, functions: Mapping[str, Json]) -> Json:
    """As the Messages API is told of it."""
    if isinstance(tool, str):
        if tool not in functions:
            raise ValueError(f"tools: the worker has no tool {tool!r} (TURNSTILE_TOOLS)")
        declared = functions[tool]
        return {name: declared[name] for name in ("name", "description", "input_schema")}
    return {"name": tool.name, "description": tool.description, "input_schema": tool.input_schema}
