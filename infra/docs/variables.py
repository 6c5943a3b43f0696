"""The tables of variables in docs/operations.md, made from the settings' own fields.

`python -m infra.docs.variables` writes them between their marks; `--check` exits 1 when they are stale.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterable, Iterator
from dataclasses import fields
from importlib import import_module
from pathlib import Path

from infra.local.settings import DEFAULT_PORTS, StackSettings, variable_of
from shared.settings import Block, ProcessSettings, Variable

PAGE = Path(__file__).parents[2] / "docs" / "operations.md"
BEGIN = "<!-- variables: written by `make schemas` from the settings modules. Do not edit. -->\n"
END = "<!-- end of variables -->\n"
# By name, as the stack starts them: infra imports no service.
PROCESSES = {
    "gateway": "services.gateway.settings",
    "agent-worker": "services.agent_worker.settings",
    "recorder": "services.recorder.settings",
}


def tables() -> str:
    """One table for the stack on one machine, and one for each block with the processes that take it."""
    parts = ["**`make up`**: which parts it starts, and where.\n" + _table(_stack())]
    for block, processes in _blocks().items():
        about = (block.__doc__ or "").split("\n\n")[0].strip()
        takers = "Every process" if len(processes) == len(PROCESSES) else " and ".join(processes)
        title = takers[0].upper() + takers[1:]
        parts.append(f"**{title}**: {about[0].lower()}{about[1:]}\n" + _table(block.variables()))
    return "\n".join(parts)


def _stack() -> Iterator[Variable]:
    for one in fields(StackSettings):
        if one.name == "ports":
            for part, port in DEFAULT_PORTS.items():
                yield Variable(
                    variable_of(part), str(port), f"port of `{part}`; 0 takes a free one"
                )
        elif about := one.metadata:
            default = about["shown"] or ("" if one.default is None else str(one.default))
            yield Variable(about["variable"], default, about["description"])


def _blocks() -> dict[type[Block], list[str]]:
    found: dict[type[Block], list[str]] = {}
    for name, module in PROCESSES.items():
        settings: type[ProcessSettings] = import_module(module).Settings
        for block in settings.blocks().values():
            found.setdefault(block, []).append(name)
    return found


def _table(variables: Iterable[Variable]) -> str:
    rows = [f"| `{one.name}` | {one.default} | {one.description} |" for one in variables]
    return "\n".join(["", "| variable | default | |", "|---|---|---|", *rows, ""])


def page(text: str) -> str:
    """The page with the tables between its marks. Raises ValueError when a mark is missing."""
    if BEGIN not in text or END not in text:
        raise ValueError(f"{PAGE.name} lacks the marks of the tables of variables")
    before, rest = text.split(BEGIN)
    return f"{before}{BEGIN}\n{tables()}\n{END}{rest.split(END)[1]}"


def main() -> int:
    """Write the tables, or with --check compare them. Exit code 0 when they are as they should be, else 1."""
    parser = argparse.ArgumentParser(
        prog="python -m infra.docs.variables",
        description=f"Write the tables of variables in {PAGE.name}, or check them.",
    )
    parser.add_argument("--check", action="store_true", help="write nothing; exit 1 when stale")
    text = PAGE.read_text(encoding="utf-8")
    wanted = page(text)
    if not parser.parse_args().check:
        PAGE.write_text(wanted, encoding="utf-8")
        return 0
    if text == wanted:
        return 0
    sys.stdout.write(f"{PAGE.name} is stale: run `make schemas`\n")
    return 1


if __name__ == "__main__":
    sys.exit(main())
