"""The state of each part, written by the supervisor at every change, readable by anybody."""

import json
from collections.abc import Mapping
from typing import Any

from infra.local.folders import Folders


def write_status(folders: Folders, status: Mapping[str, Any]) -> None:
    """Replace the status file in one step; `status` maps a part's name to its facts."""
    draft = folders.run / ".status.json"
    draft.write_text(json.dumps(status, indent=1))
    draft.replace(folders.status_file)


def read_status(folders: Folders) -> dict[str, dict[str, Any]]:
    """Part -> {state, pid, restarts}; empty when no stack was started here."""
    try:
        found: dict[str, dict[str, Any]] = json.loads(folders.status_file.read_text())
    except FileNotFoundError:
        return {}
    return found
