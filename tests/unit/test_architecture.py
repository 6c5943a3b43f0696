"""House rules that import contracts can't see: each names the file and what to do instead."""

from __future__ import annotations

import ast
import re
from collections.abc import Callable, Iterator
from functools import cache
from pathlib import Path

import pytest

pytestmark = pytest.mark.unit

ROOT = Path(__file__).parents[2]
PRODUCT = ("shared", "services", "infra", "turnstile")
LONGEST_FILE = 500
LONGEST_FUNCTION = 60
DRAWERS = {"utils", "util", "helpers", "helper", "common", "manager", "managers", "misc"}
READS_ENVIRONMENT = ("shared/settings.py", "infra/local/")
ENVIRONMENT = {"os.environ", "os.getenv", "os.environb", "os.putenv"}
CLOCK_AND_CHANCE = {
    "datetime.now",
    "datetime.utcnow",
    "datetime.today",
    "date.today",
    "time.time",
    "time.monotonic",
    "uuid.uuid1",
    "uuid.uuid4",
    "uuid4",
    "random.random",
}


@cache
def parsed(path: Path) -> ast.Module:
    return ast.parse(path.read_text(encoding="utf-8"), str(path))


def sources(*folders: str) -> list[Path]:
    return sorted(path for folder in folders for path in (ROOT / folder).rglob("*.py"))


def name(path: Path) -> str:
    return path.relative_to(ROOT).as_posix()


def dotted(node: ast.AST) -> str:
    """`os.environ` of that expression; empty for anything that is not a dotted name."""
    if isinstance(node, ast.Name):
        return node.id
    if isinstance(node, ast.Attribute):
        return f"{dotted(node.value)}.{node.attr}".lstrip(".")
    return ""


def violations(paths: list[Path], wrong: Callable[[ast.AST], str]) -> list[str]:
    """`file:line: what` for each node that `wrong` has something to say about."""
    return [
        f"{name(path)}:{getattr(node, 'lineno', 0)}: {complaint}"
        for path in paths
        for node in ast.walk(parsed(path))
        if (complaint := wrong(node))
    ]


def told(found: list[str], remedy: str) -> str:
    return "\n".join([remedy, *found])


def test_only_settings_read_the_environment() -> None:
    def wrong(node: ast.AST) -> str:
        if isinstance(node, ast.ImportFrom) and node.module == "os":
            taken = {f"os.{alias.name}" for alias in node.names} & ENVIRONMENT
            return ", ".join(sorted(taken))
        return dotted(node) if dotted(node) in ENVIRONMENT else ""

    paths = [
        path
        for path in sources(*PRODUCT)
        if not name(path).startswith(READS_ENVIRONMENT) and path.name != "settings.py"
    ]
    found = violations(paths, wrong)
    assert not found, told(found, "read it in a settings module and hand the value in")


def test_the_core_asks_no_clock_and_no_chance() -> None:
    def wrong(node: ast.AST) -> str:
        called = dotted(node.func) if isinstance(node, ast.Call) else ""
        tail = ".".join(called.split(".")[-2:])
        return f"{called}()" if {called, tail} & CLOCK_AND_CHANCE else ""

    found = violations(sources("shared/session"), wrong)
    assert not found, told(found, "time, ids and chance come into the core as arguments")


def test_the_core_never_waits() -> None:
    waits = (ast.Await, ast.AsyncFor, ast.AsyncWith, ast.AsyncFunctionDef)
    found = violations(
        sources("shared/session"),
        lambda node: type(node).__name__ if isinstance(node, waits) else "",
    )
    assert not found, told(found, "the core decides; the shell waits")


def test_functions_stay_short() -> None:
    def wrong(node: ast.AST) -> str:
        if not isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            return ""
        lines = (node.end_lineno or node.lineno) - node.lineno + 1
        return f"{node.name} has {lines} lines" if lines > LONGEST_FUNCTION else ""

    found = violations(sources(*PRODUCT, "tests"), wrong)
    assert not found, told(found, f"no function is longer than {LONGEST_FUNCTION} lines")


def test_files_stay_short() -> None:
    sizes = {path: len(path.read_text(encoding="utf-8").splitlines()) for path in everything()}
    found = [f"{name(path)}: {size} lines" for path, size in sizes.items() if size > LONGEST_FILE]
    assert not found, told(
        found, f"no file is longer than {LONGEST_FILE} lines: split it by subject"
    )


def test_every_reader_of_the_log_sees_what_is_committed_only() -> None:
    """Where a consumer is made, the file says `read_committed`, or takes its options from the settings that do."""
    found = []
    for path in everything():
        text = path.read_text(encoding="utf-8")
        makes = re.search(r"Consumer\(\s|= AIOKafkaConsumer\n|\.subscriber\b", text)
        says = re.search(r"isolation_level=|\.reader\(|\.member\(", text)
        if makes and not says and path.name != "kafka_clients.py":
            found.append(name(path))
    remedy = "make it with KafkaSettings.reader or .member, or with isolation_level=READ_COMMITTED"
    assert not found, told(found, remedy)


def test_no_module_is_named_as_a_drawer_for_everything() -> None:
    found = [
        name(path)
        for path in everything()
        if {path.stem, *path.parent.relative_to(ROOT).parts} & DRAWERS
    ]
    assert not found, told(found, "name a module by the one question it answers")


def test_every_folder_of_code_is_a_package() -> None:
    """A folder without `__init__.py` is invisible to the import contracts."""
    found = sorted(
        {
            name(path.parent)
            for path in sources(*PRODUCT)
            if not (path.parent / "__init__.py").exists()
        }
    )
    assert not found, told(found, "add an __init__.py")


def everything() -> Iterator[Path]:
    yield from sources(*PRODUCT, "tests")
