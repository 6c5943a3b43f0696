"""`claude-lock.json`: which file is which agent or environment at the provider.

The layout is that of the provider's own command line (`origin`, `resources` by file, each with an `id`); what it
keeps besides stays as it is. Ours is the field `turnstile` of a resource: the version and hash that were applied.
"""

from __future__ import annotations

import fcntl
import json
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from msgspec import Struct

from services.operator.failures import Impossible

NAME = "claude-lock.json"


class Entry(Struct, frozen=True):
    """What was applied last. `version` is 0 for an environment, which has none; `hash` is "" where a lock of the
    provider's own command line says only the id."""

    id: str
    version: int = 0
    hash: str = ""


class Lock:
    """The lock file of a folder, as it was read, and as it is written after each change."""

    def __init__(self, path: Path, base_url: str) -> None:
        """Raises Impossible for a file that is no lock, or another provider's."""
        self.path = path
        self._whole = _read(path)
        origin = self._whole.setdefault("origin", {})
        known = origin.setdefault("base_url", base_url)
        if known.rstrip("/") != base_url.rstrip("/"):
            raise Impossible(
                f"{path} belongs to {known}, and ANTHROPIC_BASE_URL is {base_url}: use another lock file (--lock)"
            )
        self._resources: dict[str, Any] = self._whole.setdefault("resources", {})

    @property
    def entries(self) -> dict[str, Entry]:
        """By file."""
        return {file: _entry(one) for file, one in self._resources.items()}

    def put(self, file: str, entry: Entry) -> None:
        """Note what was applied, and write the file at once: all of it or nothing."""
        ours = {"version": entry.version, "hash": entry.hash}
        old = self._resources.get(file, {})
        kept = old if old.get("id") == entry.id else {}
        self._resources[file] = {**kept, "id": entry.id, "turnstile": ours}
        self.write()

    def write(self) -> None:
        text = json.dumps(self._whole, indent=2, sort_keys=True) + "\n"
        beside = self.path.with_name(f".{self.path.name}.{os.getpid()}")
        with beside.open("w", encoding="utf-8") as file:
            file.write(text)
            file.flush()
            os.fsync(file.fileno())
        beside.replace(self.path)


@contextmanager
def alone(folder: Path) -> Iterator[None]:
    """Nobody else applies this folder on this machine meanwhile. Raises Impossible."""
    handle = os.open(folder, os.O_RDONLY)
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        raise Impossible(f"{folder} is being applied by another process: wait for it") from None
    else:
        yield
    finally:
        os.close(handle)


def _read(path: Path) -> dict[str, Any]:
    try:
        whole = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        return {}
    except (ValueError, OSError) as error:
        raise Impossible(
            f"{path} can't be read: {error}. Take it back from version control"
        ) from None
    resources = whole.get("resources", {}) if isinstance(whole, dict) else None
    if not isinstance(resources, dict) or not all(_is_entry(one) for one in resources.values()):
        raise Impossible(f"{path} is no lock file: resources must be entries with an id, by file")
    return dict(whole)


def _is_entry(one: Any) -> bool:
    return isinstance(one, dict) and isinstance(one.get("id"), str)


def _entry(one: dict[str, Any]) -> Entry:
    ours = one.get("turnstile") or {}
    return Entry(one["id"], int(ours.get("version", 0)), str(ours.get("hash", "")))
