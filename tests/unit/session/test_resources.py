"""What a session is given goes with it: into each provider session, and into what each turn says it ran with."""

from __future__ import annotations

import itertools
from typing import Any

import msgspec
import pytest
from msgspec import UNSET

from shared.session.events import Turn
from shared.session.inputs import SessionRequested, read_request
from shared.session.outcome import FileRubric, Outcome
from shared.session.resources import (
    MAX_RESOURCES,
    FileResource,
    MemoryResource,
    RepositoryResource,
    Resource,
    require_resources,
    used,
)
from tests.builders import Wire, bound, failed, opening, seen, turn
from tests.unit.session.specification import after

pytestmark = pytest.mark.unit
FILE = FileResource(file_id="file_1")
SHOP = RepositoryResource(url="https://github.com/acme/shop.git/", mount_path=None)
STORE = MemoryResource(memory_store_id="memstore_1", access="read_only", instructions="read it")
ALL: list[Resource] = [FILE, SHOP, STORE]
MOUNTED: list[dict[str, Any]] = [
    {"type": "file", "file_id": "file_1", "mount_path": "/mnt/session/uploads/file_1"},
    {
        "type": "github_repository",
        "url": "https://github.com/acme/shop.git/",
        "mount_path": "/workspace/shop",
    },
    {"type": "memory_store", "memory_store_id": "memstore_1", "access": "read_only"},
]
CONTENT = [
    {"type": "text", "text": "look"},
    {"type": "document", "source": {"type": "file", "file_id": "file_2"}},
    {"type": "image", "source": {"type": "file", "file_id": "file_2"}},
    {"type": "image", "source": {"type": "url", "url": "https://a.example/b.png"}},
]
NAMED = {"type": "file", "file_id": "file_2"}


def test_a_session_remembers_what_it_was_asked_to_have() -> None:
    opened = after(opening(resources=ALL))
    assert opened.state.resources == tuple(ALL)
    assert after(opening(resources=[])).state.resources == ()
    assert after(opening(resources=None)).state.resources == ()


def test_who_asks_for_none_has_no_field_of_them_in_its_events() -> None:
    wire = Wire()
    said = after(opening(), turn(), bound()).when(seen(*wire.reply()))
    assert b"resources" not in b"".join(bytes(event.data) for event in said.events)


def test_each_event_of_a_turn_says_what_it_ran_with() -> None:
    wire = Wire()
    accepted = after(opening(resources=ALL)).when(turn(content=CONTENT))
    accepted.saying("turn.accepted", resources=[*MOUNTED, NAMED])
    end = after(opening(resources=ALL), turn(content=CONTENT), bound()).when(seen(*wire.reply()))
    (last,) = (event for event in end.events if event.type == "turn.completed")
    told = msgspec.json.decode(last.data, type=Turn)
    assert told.resources is not UNSET
    assert msgspec.to_builtins(list(told.resources)) == [*MOUNTED, NAMED]


def test_a_turn_that_waits_has_its_own_files_and_not_those_of_the_one_before() -> None:
    waiting = after(opening(), turn("t1", CONTENT), bound(), turn("t2"))
    assert waiting.state.turn is not None
    assert waiting.state.turn.resources == (FileResource(file_id="file_2"),)
    assert waiting.state.queue[0].turn.resources is UNSET


def test_after_a_rotation_the_session_has_the_same() -> None:
    lost = failed(reason="session_lost", lost=True, second=1.0)
    rotated = after(opening(resources=ALL), turn(), bound(), lost)
    assert rotated.state.provider_session_id is None
    assert rotated.state.resources == tuple(ALL)


def test_the_file_of_a_rubric_counts() -> None:
    wanted = Outcome(description="a page", rubric=FileRubric(file_id="file_2"))
    asked = after().when(turn("t1", UNSET, outcome=wanted))
    asked.saying("turn.accepted", resources=[NAMED])


def test_as_many_as_may_be_are_taken_in_any_order() -> None:
    require_resources([FileResource(file_id=f"file_{n}") for n in range(MAX_RESOURCES)])
    for order in itertools.permutations(ALL):
        require_resources(list(order))
    require_resources(None)


@pytest.mark.parametrize(
    "pair",
    [
        (FileResource(file_id="a", mount_path="/a"), FileResource(file_id="b", mount_path="/ab")),
        (FileResource(file_id="a"), FileResource(file_id="a", mount_path="/a")),
        (
            RepositoryResource(url=SHOP.url),
            FileResource(file_id="a", mount_path="/workspace/shop/a"),
        ),
    ],
)
def test_paths_that_only_look_alike_do_not_collide(pair: tuple[Any, Any]) -> None:
    require_resources(pair)
    require_resources(pair[::-1])


def test_a_file_stands_in_no_files_way_in_either_order() -> None:
    pair = (
        FileResource(file_id="a", mount_path="/a"),
        FileResource(file_id="b", mount_path="/a/b"),
    )
    for order in (pair, pair[::-1]):
        with pytest.raises(msgspec.ValidationError, match="mount_path"):
            require_resources(order)


def test_what_a_turn_used_is_short_and_reads_back() -> None:
    found = used(ALL, CONTENT)
    assert b"read it" not in msgspec.json.encode(found)
    assert msgspec.to_builtins(list(found)) == [*MOUNTED, NAMED]
    assert used((), "file_1") == ()


def test_an_input_from_before_there_were_any_is_read() -> None:
    old = b'{"tenant_id":"a","session_id":"s","at":"2026-11-21T12:00:00Z","user_id":"u"}'
    request = read_request("session.requested", old)
    assert isinstance(request, SessionRequested)
    assert request.resources is UNSET
