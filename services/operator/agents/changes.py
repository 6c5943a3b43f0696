"""A file against what the provider has, line by line, and what its author should be warned of."""

from __future__ import annotations

import difflib
from collections.abc import Sequence
from typing import Any, Protocol

import yaml

from services.operator.agents.declared import Declared
from services.operator.agents.plan import Remote, Step, comparable
from shared import cache_minimum
from shared.cache_minimum import Counted


class Counts(Protocol):
    """Counts the tokens of a prompt: see provider.Provider."""

    async def tokens(self, model: str, system: str) -> Counted: ...


def changed_lines(one: Declared, found: Remote | None) -> str:
    """A unified diff from what is there to what the file says; "" when they are the same."""
    if found is None:
        there, name = "", "not applied"
    else:
        there, name = _text(comparable(one.body, found.body)), found.id
        name += f" version {found.version}" if found.version else ""
    lines = difflib.unified_diff(
        there.splitlines(), _text(one.body).splitlines(), name, one.file, lineterm=""
    )
    return "\n".join(lines)


async def warnings(there: Counts, found: Sequence[Step], day: str) -> list[str]:
    """Prompts of what is about to be applied that are too short for the provider's cache."""
    minimums, told = cache_minimum.load(), []
    for step in found:
        body = step.declared.body
        if step.action not in ("create", "update") or not body.get("system"):
            continue
        model = body["model"] if isinstance(body["model"], str) else body["model"]["id"]
        words = minimums.warning(model, await there.tokens(model, body["system"]), day)
        told += [f"{step.declared.file}: {words}"] if words else []
    return told


def _text(body: dict[str, Any]) -> str:
    """The prompt last, as in the file; what is empty is not shown."""
    said = {name: value for name, value in sorted(body.items()) if value not in (None, [], {})}
    system = said.pop("system", "")
    return yaml.safe_dump(said, allow_unicode=True, sort_keys=True) + (
        f"---\n{system}" if system else ""
    )
