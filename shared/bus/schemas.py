"""The schemas of everything on the bus, generated from the models.

`python -m shared.bus.schemas` writes `docs/schemas/{inputs,events}/<type>.json` and `shared/bus/asyncapi.json`;
`--check` writes nothing and fails when they are stale, or when they break a release kept under
`docs/schemas/released/`; `--release v0.2` keeps what is there now as that release, for ever.
"""

from __future__ import annotations

import argparse
import difflib
import json
import sys
from pathlib import Path

from shared.bus.asyncapi import asyncapi
from shared.bus.compatibility import Schema, breaks_event, breaks_input
from shared.bus.models import event_schemas, input_schemas

ROOT = Path(__file__).parents[2]
SCHEMAS = ROOT / "docs" / "schemas"
RELEASED = SCHEMAS / "released"
ASYNCAPI = Path(__file__).with_name("asyncapi.json")
RULES = {"inputs": breaks_input, "events": breaks_event}
REMEDY = "run `python -m shared.bus.schemas` (or `make schemas`) and commit what it writes"


def generated() -> dict[Path, str]:
    """Every generated file, by its path, as it must stand in the tree."""
    files: dict[Path, Schema] = {
        SCHEMAS / folder / f"{kind}.json": schema
        for folder, schemas in (("inputs", input_schemas()), ("events", event_schemas()))
        for kind, schema in schemas.items()
    }
    files[ASYNCAPI] = asyncapi()
    return {path: _text(schema) for path, schema in files.items()}


def stale(files: dict[Path, str]) -> list[str]:
    """A diff for each file that is not as generated, one line for each that should not be there."""
    found = []
    for path, text in files.items():
        there = path.read_text(encoding="utf-8") if path.exists() else ""
        if there != text:
            name = str(path.relative_to(ROOT))
            found.append("".join(difflib.unified_diff(*_lines(there, text), name, "generated")))
    return found + [f"{path.relative_to(ROOT)}: nothing generates it\n" for path in _orphans(files)]


def incompatible(released: Path = RELEASED) -> list[str]:
    """What breaks a release: `<release> <folder> <type>: <field>: <reason>`; empty when nothing does."""
    today = {"inputs": input_schemas(), "events": event_schemas()}
    found = []
    for path in sorted(released.glob("*/*/*.json")):
        release, folder, kind = path.parent.parent.name, path.parent.name, path.stem
        if kind not in today[folder]:
            found.append(f"{release} {folder} {kind}: the type is gone")
            continue
        baseline = json.loads(path.read_text(encoding="utf-8"))
        reasons = RULES[folder](baseline, today[folder][kind])
        found += [f"{release} {folder} {kind}: {reason}" for reason in reasons]
    return found


def write(files: dict[Path, str]) -> None:
    """Bring the tree to `files`; what nothing generates any more is deleted."""
    for path in _orphans(files):
        path.unlink()
    for path, text in files.items():
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")


def release(name: str) -> None:
    """Keep today's schemas as release `name`. Raises FileExistsError when there is one already."""
    (RELEASED / name).mkdir(parents=True)
    for folder, schemas in (("inputs", input_schemas()), ("events", event_schemas())):
        (RELEASED / name / folder).mkdir()
        for kind, schema in schemas.items():
            path = RELEASED / name / folder / f"{kind}.json"
            path.write_text(_text(schema), encoding="utf-8")


def _orphans(files: dict[Path, str]) -> list[Path]:
    there = [path for folder in RULES for path in (SCHEMAS / folder).glob("*.json")]
    return sorted(set(there) - set(files))


def _lines(there: str, wanted: str) -> tuple[list[str], list[str]]:
    return there.splitlines(keepends=True), wanted.splitlines(keepends=True)


def _text(schema: Schema) -> str:
    return json.dumps(schema, indent=2, ensure_ascii=False) + "\n"


def _check() -> int:
    broken, drifted = incompatible(), stale(generated())
    for line in broken:
        sys.stdout.write(f"incompatible: {line}\n")
    if broken:
        sys.stdout.write("incompatible: add a new type or an optional field instead\n")
    sys.stdout.writelines(drifted)
    if drifted:
        sys.stdout.write(f"stale: {REMEDY}\n")
    return 1 if broken or drifted else 0


def main() -> int:
    """Write the schemas, keep them as a release, or with --check compare them: exit code 1 on drift or break."""
    parser = argparse.ArgumentParser(
        prog="python -m shared.bus.schemas",
        description="Write the JSON Schemas and the AsyncAPI document, or check them.",
    )
    todo = parser.add_mutually_exclusive_group()
    todo.add_argument(
        "--check", action="store_true", help="write nothing; exit 1 on drift or break"
    )
    todo.add_argument("--release", metavar="NAME", help="keep today's schemas as a release (v0.2)")
    arguments = parser.parse_args()
    if arguments.check:
        return _check()
    write(generated())
    if arguments.release:
        try:
            release(arguments.release)
        except FileExistsError:
            parser.error(f"{arguments.release} is released already; a release never changes")
    return 0


if __name__ == "__main__":
    sys.exit(main())
