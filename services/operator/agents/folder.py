"""Reads a folder of agents and environments, in the layout of the provider's own command line.

`agents/NAME.md` (front matter: the agent's fields; body: its system prompt) and `environments/NAME.yaml`. All files
are checked before anything is done with one of them.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Collection, Iterator
from pathlib import Path as FilePath
from typing import Any

from services.operator.agents.declared import (
    MARKS,
    Declared,
    Invalid,
    Kind,
    Path,
    Problem,
    field_of,
)
from services.operator.agents.links import links, wrong_depth, wrong_links
from services.operator.agents.params import wrong
from services.operator.agents.yaml_text import Unreadable, front_matter, read

NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,99}")
MAX_SYSTEM, MAX_SERVERS, MAX_TOOLS, MAX_NAME = 100_000, 20, 256, 256
MAX_METADATA, MAX_KEY, MAX_VALUE = 16, 64, 512
# Folders of the provider's layout that its own command line applies, and this one leaves alone.
OTHERS = ("skills", "memory_stores", "deployments", "vaults")
LIMITED = {
    "type": "limited",
    "allowed_hosts": [],
    "allow_package_managers": True,
    "allow_mcp_servers": True,
}
EMPTY_AGENT: dict[str, Any] = {
    "description": None,
    "system": None,
    "tools": [],
    "mcp_servers": [],
    "skills": [],
    "multiagent": None,
    "execution_identity": None,
    "metadata": {},
}
EMPTY_ENVIRONMENT: dict[str, Any] = {"description": None, "metadata": {}}
Lines = dict[Path, int]


def declared(folder: FilePath, model: str) -> list[Declared]:
    """What the folder declares: environments, agents that refer to no other file, and those that do, each by name.
    An agent that names no model gets `model`.

    Raises Invalid with all that is wrong in all files.
    """
    found: list[Declared] = []
    problems: list[Problem] = []
    places = list(_files(folder))
    files = {file for _, file, _ in places} | set(_skills(folder))
    for kind, file, path in places:
        try:
            found.append(_one(kind, file, path, model, files))
        except Invalid as invalid:
            problems += invalid.problems
    if not found and not problems:
        words = "has neither agents/*.md nor environments/*.yaml"
        problems.append(Problem(str(folder), 1, "", words))
    by_file = {one.file: one for one in found}
    problems += [
        Problem(one.file, 1, field_of(where), words)
        for one in found
        for where, words in wrong_depth(one, by_file)
    ]
    if problems:
        raise Invalid(problems)
    return sorted(found, key=lambda one: (one.kind == "agent", bool(one.links)))


def left_alone(folder: FilePath) -> list[str]:
    """Folders that hold other kinds of things."""
    return [name for name in OTHERS if (folder / name).is_dir()]


def _files(folder: FilePath) -> Iterator[tuple[Kind, str, FilePath]]:
    kinds: tuple[tuple[Kind, str, tuple[str, ...]], ...] = (
        ("environment", "environments", (".yaml", ".yml")),
        ("agent", "agents", (".md",)),
    )
    for kind, place, endings in kinds:
        for path in sorted((folder / place).glob("*")):
            if path.suffix in endings and path.name != "README.md":
                yield kind, f"./{place}/{path.name}", path


def _skills(folder: FilePath) -> Iterator[str]:
    for path in (folder / "skills").glob("*"):
        if path.is_dir():
            yield f"./skills/{path.name}"


def _one(kind: Kind, file: str, path: FilePath, model: str, files: Collection[str]) -> Declared:
    """Raises Invalid."""
    try:
        text = path.read_text(encoding="utf-8")
        read_as = _agent if kind == "agent" else _environment
        body, lines, notes = read_as(text, model)
    except Unreadable as error:
        raise Invalid([Problem(file, error.line, "", str(error))]) from None
    except (OSError, UnicodeDecodeError) as error:
        raise Invalid([Problem(file, 1, "", f"can't be read: {error}")]) from None
    if not NAME.fullmatch(path.stem):
        words = "the file's name is the name sessions use: letters, digits and ._- only"
        raise Invalid([Problem(file, 1, "", words)])
    wrongs = list(_all_wrong(kind, body))
    found = links(file, body) if kind == "agent" and not wrongs else ()
    wrongs += wrong_links(body, found, files) if kind == "agent" and not wrongs else ()
    problems = [
        Problem(file, _line(lines, where), field_of(where), words) for where, words in wrongs
    ]
    if problems:
        raise Invalid(problems)
    return Declared(kind, file, path.stem, body, tuple(notes), found)


def _agent(text: str, model: str) -> tuple[dict[str, Any], Lines, list[str]]:
    """Raises Unreadable."""
    head, line, system = front_matter(text)
    given, lines = read(head, line)
    asked = _fields(given, line)
    if "system" in asked:
        raise Unreadable(
            lines[("system",)], "system: the text below the front matter is the prompt"
        )
    notes = [] if "model" in asked else [f"names no model: {model}"]
    return (
        {**EMPTY_AGENT, "model": model, **_without_none(asked), "system": system or None},
        lines,
        notes,
    )


def _environment(text: str, _model: str) -> tuple[dict[str, Any], Lines, list[str]]:
    """Raises Unreadable. A cloud environment that says nothing of its network gets a limited one."""
    given, lines = read(text)
    body = {**EMPTY_ENVIRONMENT, **_without_none(_fields(given, 1))}
    config = body.setdefault("config", {"type": "cloud"})
    notes = []
    if isinstance(config, dict) and config.get("type") == "cloud" and not config.get("networking"):
        body["config"] = {**config, "networking": LIMITED}
        notes.append("says nothing of its network: limited, to package registries and MCP servers")
    return body, lines, notes


def _fields(given: Any, line: int) -> dict[str, Any]:
    if isinstance(given, dict):
        return given
    raise Unreadable(line, "must be fields with values")


def _without_none(asked: dict[str, Any]) -> dict[str, Any]:
    """A field that is left empty is not given."""
    return {name: value for name, value in asked.items() if value is not None}


def _all_wrong(kind: Kind, body: dict[str, Any]) -> Iterator[tuple[Path, str]]:
    """What the SDK's types do not take, and else what the provider's limits do not."""
    found = list(wrong(kind, body))
    yield from found
    if not found:
        for limit in _LIMITS:
            yield from limit(body)


def _texts(body: dict[str, Any]) -> Iterator[tuple[Path, str]]:
    if not 1 <= len(body["name"]) <= MAX_NAME:
        yield ("name",), f"must have 1 to {MAX_NAME} characters"
    if len(body.get("system") or "") > MAX_SYSTEM:
        yield (), f"the prompt has {len(body['system'])} characters; {MAX_SYSTEM} are allowed"


def _metadata(body: dict[str, Any]) -> Iterator[tuple[Path, str]]:
    metadata = body["metadata"]
    room = MAX_METADATA - len(MARKS)
    if len(metadata) > room:
        yield (
            ("metadata",),
            f"has {len(metadata)} pairs; {room} are allowed, beside {len(MARKS)} of ours",
        )
    for key, value in metadata.items():
        if key in MARKS:
            yield ("metadata", key), "is kept for Turnstile itself"
        elif len(key) > MAX_KEY or len(value) > MAX_VALUE:
            yield ("metadata", key), f"{MAX_KEY} characters for a key, {MAX_VALUE} for a value"


def _tools(body: dict[str, Any]) -> Iterator[tuple[Path, str]]:
    tools, servers = body.get("tools") or [], body.get("mcp_servers") or []
    if len(tools) > MAX_TOOLS:
        yield ("tools",), f"has {len(tools)}; {MAX_TOOLS} are allowed"
    if len(servers) > MAX_SERVERS:
        yield ("mcp_servers",), f"has {len(servers)}; {MAX_SERVERS} are allowed"
    names = [server["name"] for server in servers]
    used = {tool["mcp_server_name"] for tool in tools if tool["type"] == "mcp_toolset"}
    for place, name in enumerate(names):
        if names.index(name) != place:
            yield ("mcp_servers", place, "name"), f"{name} is the name of another one"
        elif name not in used:
            yield ("mcp_servers", place), f"no mcp_toolset in tools uses {name}"
    for place, tool in enumerate(tools):
        if tool["type"] == "mcp_toolset" and tool["mcp_server_name"] not in names:
            known = ", ".join(names) or "none"
            words = f"{tool['mcp_server_name']} is none of mcp_servers: {known}"
            yield ("tools", place, "mcp_server_name"), words


def _packages(body: dict[str, Any]) -> Iterator[tuple[Path, str]]:
    config = body.get("config") or {}
    network = config.get("networking") or {}
    if (
        config.get("packages")
        and network.get("type") == "limited"
        and not network.get("allow_package_managers")
    ):
        yield ("config", "packages"), "needs networking.allow_package_managers: true"


_LIMITS: tuple[Callable[[dict[str, Any]], Iterator[tuple[Path, str]]], ...] = (
    _texts,
    _metadata,
    _tools,
    _packages,
)


def _line(lines: Lines, path: Path) -> int:
    """The line of a field; of what it is missing in, where it is not there."""
    for length in range(len(path), -1, -1):
        if path[:length] in lines:
            return lines[path[:length]]
    return 1
