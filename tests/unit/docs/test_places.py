"""The places that the documents name are there: files, folders, modules that are run, and what files define."""

from __future__ import annotations

import re
from collections.abc import Iterator
from functools import cache
from importlib.util import find_spec
from pathlib import Path, PurePosixPath

import pytest

pytestmark = pytest.mark.unit
ROOT = Path(__file__).parents[3]
DOCUMENTS = sorted([ROOT / "README.md", *(ROOT / "docs").rglob("*.md")])
# A path from the root, or from `services`; or a file by its name. Other paths are of URLs and state folders.
TREE = ("docs", "infra", "services", "shared", "tests", "turnstile")
# `turnstile/…` is also a folder of caches.
ROOMS = {*TREE, "agent_worker", "gateway", "operator", "recorder"} - {"turnstile"}
FILE = re.compile(r"[\w*]+\.(py|sql|toml|yaml|xml|lock)")
CODE = re.compile(r"`([^`\s]+)`")
LINK = re.compile(r"\]\(([^)#\s]+)[^)]*\)")
RUN = re.compile(r"python -m ((?:infra|services|shared|tests)[\w.]*)")
DEFINED = re.compile(r"`([\w/]+\.py)` \(`(?:\w+\.)?(\w+)`\)")


@cache
def present() -> tuple[PurePosixPath, ...]:
    """Every file and folder of the code and the documents, from the root on."""
    top = [path for path in ROOT.iterdir() if path.is_file()]
    paths = [*top, *(path for room in TREE for path in (ROOT / room).rglob("*"))]
    return tuple(PurePosixPath(path.relative_to(ROOT).as_posix()) for path in paths)


def found(place: str) -> list[PurePosixPath]:
    """What the place may mean: a whole path, or the end of one."""
    return [path for path in present() if path.match(place.rstrip("/"))]


def named(text: str) -> Iterator[str]:
    for word in CODE.findall(text):
        place = word.split("::")[0]
        first, *rest = place.split("/")
        if (rest and first in ROOMS) or FILE.fullmatch(place.rsplit("/")[-1]):
            yield place


def by_name(path: Path) -> str:
    return path.relative_to(ROOT).as_posix()


@pytest.mark.parametrize("document", DOCUMENTS, ids=by_name)
def test_every_place_in_a_document_is_there(document: Path) -> None:
    text = document.read_text(encoding="utf-8")
    assert [place for place in named(text) if not found(place)] == []
    links = [link for link in LINK.findall(text) if "://" not in link]
    assert [link for link in links if not (document.parent / link).exists()] == []
    assert [module for module in RUN.findall(text) if find_spec(module) is None] == []


@pytest.mark.parametrize("document", DOCUMENTS, ids=by_name)
def test_what_a_file_is_said_to_define_is_in_it(document: Path) -> None:
    for place, name in DEFINED.findall(document.read_text(encoding="utf-8")):
        texts = [(ROOT / path).read_text(encoding="utf-8") for path in found(place)]
        assert any(re.search(rf"\b{name}\b", text) for text in texts), f"{place}: {name}"


def test_documents_name_places() -> None:
    assert len([place for path in DOCUMENTS for place in named(path.read_text("utf-8"))]) > 80
