"""`python -m tests.dead_code`: functions, classes and methods of the product that nothing uses; for `make check`.

Names are looked for in the product and the tests together; what only a test uses is dead too, but not found here.
"""

from __future__ import annotations

import sys
from fnmatch import fnmatch

from vulture.core import Vulture

PRODUCT = ("shared", "services", "infra", "turnstile")
KINDS = {"function", "class", "method", "property", "import"}
# Called by a library, by name.
CALLED = {
    "downgrade": "Alembic",
    "capture_signals": "uvicorn",
    "send_400_response": "uvicorn",
    "on_start": "OpenTelemetry",
    "on_end": "OpenTelemetry",
    "is_recording": "OpenTelemetry",
    "update_name": "OpenTelemetry",
    "record_exception": "OpenTelemetry",
    "list_commands": "Typer",
    "audit": "Typer",
    "orphans_command": "Typer",
    "diff": "Typer",
    "publish_batch": "FastStream",
    "_*": "decorated: pydantic's validators, SQLAlchemy's compilers and listeners",
    "*Row": "tables, known to SQLModel's metadata",
}


def main() -> int:
    """0 when nothing is dead, else 1; what is dead is printed with its place."""
    vulture = Vulture()
    vulture.scavenge([*PRODUCT, "tests"])
    dead = [
        item
        for item in vulture.get_unused_code(min_confidence=60)
        if item.typ in KINDS
        and str(item.filename).startswith(PRODUCT)
        and not any(fnmatch(item.name, name) for name in CALLED)
    ]
    for item in dead:
        print(f"{item.filename}:{item.first_lineno}: {item.typ} {item.name} is used nowhere")
    return 1 if dead else 0


if __name__ == "__main__":
    sys.exit(main())
