"""What a folder declares, as values; and what is wrong with it. Pure."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from typing import Any, Literal

from msgspec import Struct

Kind = Literal["agent", "environment"]
Path = tuple[str | int, ...]

# Keys of metadata that say whose an agent or environment is. They are ours: a file that has one is refused.
FILE, HASH, TENANT = "turnstile_file", "turnstile_hash", "turnstile_tenant"
MARKS = (FILE, HASH, TENANT)


class Problem(Struct, frozen=True):
    """What is wrong in a file: at a line (from 1), in a field (`tools[0].type`, "" for the file as a whole)."""

    file: str
    line: int
    field: str
    words: str

    def __str__(self) -> str:
        where = f"{self.field}: " if self.field else ""
        return f"{self.file}:{self.line}: {where}{self.words}"


class Invalid(Exception):
    """The folder can't be used; all that is wrong with it."""

    def __init__(self, problems: Sequence[Problem]) -> None:
        super().__init__("\n".join(map(str, problems)))
        self.problems = list(problems)


class Link(Struct, frozen=True):
    """A place of a body that stands for another file: `./agents/reviewer.md`, `./skills/a`."""

    place: Path
    file: str


class Declared(Struct, frozen=True):
    """One agent or environment. `file` is `./agents/support.md`, `name` its stem: the name sessions may use.
    `body` is all the provider is told but our marks, `links` its places that stand for other files; `notes` are for
    whoever reads the plan."""

    kind: Kind
    file: str
    name: str
    body: dict[str, Any]
    notes: tuple[str, ...] = ()
    links: tuple[Link, ...] = ()

    @property
    def hash(self) -> str:
        """The same for the same content, however it is written."""
        text = json.dumps(self.body, sort_keys=True, separators=(",", ":"))
        return hashlib.sha256(text.encode()).hexdigest()[:32]

    def marked(self, tenant: str) -> dict[str, Any]:
        """The body as it is sent: with the marks that find it again."""
        marks = {FILE: self.file, HASH: self.hash} | ({TENANT: tenant} if tenant else {})
        return {**self.body, "metadata": {**self.body["metadata"], **marks}}


def field_of(path: Path) -> str:
    """A path in the form of a reader's: `tools[0].type`."""
    parts = [f"[{step}]" if isinstance(step, int) else f".{step}" for step in path]
    return "".join(parts).lstrip(".")
