"""Log files of the parts: rotated by size, their last lines shown when a part fails."""

import shutil
from pathlib import Path

LIMIT_BYTES = 20 * 1024 * 1024
_TAIL_BYTES = 8192


def rotate(log: Path, limit: int = LIMIT_BYTES) -> bool:
    """Move a log beyond the limit to `<name>.1`; the part writes on into the emptied file.

    The copy is made by us because the parts keep the file open (for appending, so an emptied
    file really starts at 0). Lines written between copy and cut are lost: acceptable for a log.
    """
    try:
        if log.stat().st_size <= limit:
            return False
        shutil.copyfile(log, log.with_name(log.name + ".1"))
        with log.open("r+b") as handle:
            handle.truncate(0)
    except FileNotFoundError:
        return False
    return True


def tail(log: Path, lines: int = 15) -> str:
    """The last lines of a log, indented, for an error message."""
    try:
        with log.open("rb") as handle:
            handle.seek(max(0, log.stat().st_size - _TAIL_BYTES))
            text = handle.read().decode(errors="replace")
    except FileNotFoundError:
        return "    (no log)"
    kept = text.splitlines()[-lines:] or ["(empty log)"]
    return "\n".join(f"    {line}" for line in kept)
