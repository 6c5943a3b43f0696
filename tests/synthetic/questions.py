"""The questions of docs/analysts.md, read from the document itself."""

from __future__ import annotations

import re
from pathlib import Path

DOCUMENT = Path(__file__).parents[2] / "docs" / "analysts.md"
_QUERY = re.compile(r"^(\S[^\n]*):\n\n```sql\n(.*?)```", re.DOTALL | re.MULTILINE)


def questions() -> list[tuple[str, str]]:
    """(the question in words, its SQL), in order."""
    return [(words.strip(), sql) for words, sql in _QUERY.findall(DOCUMENT.read_text())]
