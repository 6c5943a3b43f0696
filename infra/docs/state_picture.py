"""The picture of a turn's life, drawn from the transition table.

`python -m infra.docs.state_picture` writes `docs/session-states.md`; `--check` exits 1 when it is stale.
"""

from __future__ import annotations

import argparse
import sys
from collections import defaultdict
from collections.abc import Mapping
from pathlib import Path

from shared.session.events import TURN_ENDS, TurnStatus
from shared.session.transitions import TRANSITIONS

PAGE = Path(__file__).parents[2] / "docs" / "session-states.md"
Table = Mapping[tuple[TurnStatus | None, str], TurnStatus]

INTRODUCTION = """\
# The life of a turn

<!-- Written by `python -m infra.docs.state_picture` from shared/session/transitions.py. Do not edit. -->

A session works on one turn at a time; others wait in its queue as *accepted*. Each arrow is an event on
`turnstile.events.v1`, and the event's `data` carries the turn as it stands afterwards. An event that has no arrow
from a status can't be recorded in it.
"""
LEGEND = """\
*accepted*: in the queue, or waiting for its first attempt. *running*: an attempt is under way, or the next one is
due at `retry_at`. *requires_action*: it waits for people: for a confirmation, a
custom tool's result, a higher budget or an MCP server's connection. The other four
are ends: nothing follows them.

| from | event | to |
|---|---|---|
"""


def picture(table: Table = TRANSITIONS) -> str:
    """A Mermaid state diagram; arrows between the same two statuses share one label."""
    labels: dict[tuple[str, str], list[str]] = defaultdict(list)
    for (before, event), status in table.items():
        labels[before or "[*]", status].append(event.removeprefix("turn."))
    arrows = [f"    {a} --> {b}: {' / '.join(names)}" for (a, b), names in labels.items()]
    ends = sorted({end.removeprefix("turn.") for end in TURN_ENDS} & set(table.values()))
    return "\n".join(["stateDiagram-v2", *arrows, *(f"    {end} --> [*]" for end in ends)])


def page(table: Table = TRANSITIONS) -> str:
    """The whole Markdown page: picture, legend, table."""
    rows = [
        f"| {before or 'unknown'} | `{event}` | {to} |" for (before, event), to in table.items()
    ]
    diagram = f"```mermaid\n{picture(table)}\n```\n"
    return "\n".join([INTRODUCTION, diagram, LEGEND + "\n".join(rows)]) + "\n"


def main() -> int:
    """Write the picture, or with --check compare it. Exit code 0 when it is as it should be, else 1."""
    parser = argparse.ArgumentParser(
        prog="python -m infra.docs.state_picture", description=f"Write {PAGE.name}, or check it."
    )
    parser.add_argument("--check", action="store_true", help="write nothing; exit 1 when stale")
    if not parser.parse_args().check:
        PAGE.write_text(page(), encoding="utf-8")
        return 0
    if PAGE.exists() and PAGE.read_text(encoding="utf-8") == page():
        return 0
    sys.stdout.write(f"{PAGE.name} is stale: run `python -m infra.docs.state_picture`\n")
    return 1


if __name__ == "__main__":
    sys.exit(main())
