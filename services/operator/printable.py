"""Text made safe for a terminal. Pure.

What users and agents wrote may hold control sequences, half characters and marks that turn the writing round: none
of that may reach the terminal of somebody who only wants to read it.
"""

from __future__ import annotations

import textwrap
from collections.abc import Sequence

# Joins the parts of an emoji; not printable for Python, and harmless.
_JOINER = "\u200d"
_ODD = "\ufffd"


def plain(text: str) -> str:
    """The text with its line breaks and tabs, all that is not printable replaced."""
    if text.isprintable():
        return text
    return "".join(c if c.isprintable() or c in "\n\t" or c == _JOINER else _ODD for c in text)


def short(text: str, width: int) -> str:
    """The text in one line of at most `width` characters."""
    flat = plain(" ".join(text.split()))
    return flat if len(flat) <= width else flat[: width - 1] + "…"


def wrapped(text: str, width: int, indent: str) -> str:
    """The text in lines of at most `width` characters, all but the first one behind `indent`."""
    lines = [
        piece
        for line in plain(text).expandtabs(4).splitlines() or [""]
        for piece in textwrap.wrap(line, max(20, width), replace_whitespace=False) or [""]
    ]
    return f"\n{indent}".join(lines).rstrip()


def in_columns(lines: Sequence[Sequence[str]], left: int | None = None) -> list[str]:
    """Lines of cells, each column as wide as its widest cell; the first `left` columns (None: all) are flush left,
    the others flush right."""
    widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
    return [
        "  ".join(
            cell.ljust(width) if left is None or place < left else cell.rjust(width)
            for place, (cell, width) in enumerate(zip(line, widths, strict=True))
        ).rstrip()
        for line in lines
    ]
