"""Files that refer to others by path, where the provider's calls want an id: an agent's skills, and the agents that
it calls. Pure.

A path is relative to the file that says it (`./reviewer.md`, `../skills/a`). An agent is given by the version that
was applied: a changed agent changes those that call it. Skills have the ids that `ant apply` has noted in the lock.
"""

from __future__ import annotations

import copy
import posixpath
from collections.abc import Collection, Iterator, Mapping
from typing import Any

from msgspec import Struct
from msgspec.structs import replace

from services.operator.agents.declared import Declared, Link, Path

ROSTERS: tuple[Path, ...] = (
    ("multiagent", "agents"),
    ("multiagent", "subagents", "predefined_agents"),
    ("multiagent", "workflows", "predefined_agents"),
)
Wrong = tuple[Path, str]


class Linked(Struct, frozen=True):
    """What a file stands for at the provider; `version` 0: the newest."""

    id: str
    version: int = 0


def links(file: str, body: Mapping[str, Any]) -> tuple[Link, ...]:
    """The places of a body at which a path stands, and the files that are meant, as the lock names them."""
    found = []
    for place, said in _references(body):
        if said.startswith(("./", "../")):
            meant = posixpath.normpath(posixpath.join(posixpath.dirname(file), said))
            found.append(Link(place, f"./{meant}"))
    return tuple(found)


def wrong_links(
    body: Mapping[str, Any], found: Collection[Link], files: Collection[str]
) -> Iterator[Wrong]:
    """References to what is not there, by the folder's `files`: agents, and folders of skills."""
    for place, said in _references(body):
        if said.startswith("https://"):
            yield place, "must be an id or a path, not a URL"
    for one in found:
        kind = "skills" if one.place[0] == "skills" else "agents"
        if one.file not in files or not one.file.startswith(f"./{kind}/"):
            yield one.place, f"there is no {one.file} in {kind}/: a path is relative to this file"


def wrong_depth(one: Declared, by_file: Mapping[str, Declared]) -> Iterator[Wrong]:
    """An agent that is called calls nobody itself: the provider knows one level."""
    for link in one.links:
        called = by_file.get(link.file)
        if called is not None and called.body["multiagent"] is not None:
            words = f"{link.file} has a multiagent of its own: one level is allowed"
            yield link.place, f"{words} (for itself, an agent says type: self)"


def resolved(one: Declared, known: Mapping[str, Linked]) -> Declared:
    """With ids in the place of paths, as far as these files are known."""
    if not any(link.file in known for link in one.links):
        return one
    body = copy.deepcopy(one.body)
    for link in one.links:
        if link.file in known:
            _put(body, link.place, known[link.file])
    return replace(one, body=body)


def unknown_skills(one: Declared, known: Collection[str]) -> str:
    """Why it can't be applied, "" where it can."""
    for link in one.links:
        if link.place[0] == "skills" and link.file not in known:
            return f"the lock does not have {link.file}: `ant apply {link.file}` first"
    return ""


def _put(body: dict[str, Any], place: Path, found: Linked) -> None:
    inner: Any = body
    for step in place[:-1]:
        inner = inner[step]
    said = inner[place[-1]]
    if place[0] == "skills":
        said["skill_id"] = found.id
        return
    pinned = said if isinstance(said, dict) else {}
    newest = {"version": found.version} if found.version else {}
    inner[place[-1]] = {"type": "agent", **newest, **pinned, "id": found.id}


def _references(body: Mapping[str, Any]) -> Iterator[tuple[Path, str]]:
    for number, skill in enumerate(body.get("skills") or ()):
        yield from _said(("skills", number), skill.get("skill_id"))
    for roster in ROSTERS:
        entries: Any = body
        for name in roster:
            entries = entries.get(name) if isinstance(entries, Mapping) else None
        for number, entry in enumerate(entries or ()):
            id = entry.get("id") if isinstance(entry, Mapping) else entry
            yield from _said((*roster, number), id)


def _said(place: Path, id: Any) -> Iterator[tuple[Path, str]]:
    if isinstance(id, str):
        yield place, id
