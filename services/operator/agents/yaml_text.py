"""YAML with the line of each field, and Markdown with front matter. Pure."""

from __future__ import annotations

from typing import Any

import yaml

from services.operator.agents.declared import Path

# An alias repeats what it names: without a bound a page of text could become more than memory holds.
MOST_NODES = 20_000
FENCE = "---"


class Unreadable(Exception):
    """The text is no YAML that can be used; `line` counts from 1."""

    def __init__(self, line: int, words: str) -> None:
        super().__init__(words)
        self.line = line


def read(text: str, first_line: int = 1) -> tuple[Any, dict[Path, int]]:
    """The value, and the line where each field in it stands. Raises Unreadable."""
    loader = yaml.SafeLoader(text)
    try:
        node = loader.get_single_node()
        reader = _Reader(loader, first_line)
        return (reader.value(node, ()) if node is not None else None), reader.lines
    except yaml.MarkedYAMLError as error:
        line = error.problem_mark.line if error.problem_mark else 0
        raise Unreadable(first_line + line, error.problem or "is no YAML") from None
    except yaml.YAMLError as error:
        raise Unreadable(first_line, " ".join(str(error).split())) from None
    finally:
        loader.dispose()


def front_matter(text: str) -> tuple[str, int, str]:
    """The front matter of a Markdown text, the line it begins at, and the body. Raises Unreadable."""
    lines = text.removeprefix("\ufeff").splitlines()
    if not lines or lines[0].rstrip() != FENCE:
        raise Unreadable(1, f"must begin with front matter: a line {FENCE}, fields, a line {FENCE}")
    for place, line in enumerate(lines[1:], 1):
        if line.rstrip() == FENCE:
            return "\n".join(lines[1:place]), 2, "\n".join(lines[place + 1 :]).strip()
    raise Unreadable(1, f"the front matter has no end: a line {FENCE}")


class _Reader:
    def __init__(self, loader: yaml.SafeLoader, first_line: int) -> None:
        self._loader = loader
        self._first = first_line
        self._nodes = 0
        self.lines: dict[Path, int] = {}

    def value(self, node: Any, path: Path) -> Any:
        self._nodes += 1
        line = self._first + node.start_mark.line
        if self._nodes > MOST_NODES:
            raise Unreadable(line, f"has more than {MOST_NODES} values")
        self.lines.setdefault(path, line)
        if isinstance(node, yaml.MappingNode):
            return self._mapping(node, path)
        if isinstance(node, yaml.SequenceNode):
            return [self.value(one, (*path, place)) for place, one in enumerate(node.value)]
        return self._loader.construct_object(node)

    def _mapping(self, node: yaml.MappingNode, path: Path) -> dict[str, Any]:
        made: dict[str, Any] = {}
        for key, value in node.value:
            line = self._first + key.start_mark.line
            if not isinstance(key, yaml.ScalarNode):
                raise Unreadable(line, "a field's name must be text")
            name = str(key.value)
            if name in made:
                raise Unreadable(line, f"{name} stands here twice")
            self.lines[(*path, name)] = line
            made[name] = self.value(value, (*path, name))
        return made
