"""A turn that nobody can use parks its session, when that is asked for and it can be told whose turn it is."""

from __future__ import annotations

import msgspec
import pytest
from msgspec.structs import replace

from services.agent_worker.inbox.validate import parked
from services.agent_worker.ports import InputRecord, NewInput
from shared.bus.envelope import Headers
from shared.errors import Corrupt
from shared.session.inputs import PARKED, TurnParked, read_request
from tests.builders import BEGINNING, SESSION, TENANT, TRACEPARENT, at, interrupting, turn
from tests.unit.agent_worker.outside import as_record
from tests.unit.agent_worker.test_intake import KEY, Room
from tests.unit.agent_worker.virtual_time import virtual

pytestmark = pytest.mark.unit
ERROR = Corrupt("invalid_field", "says nothing - at `$.content`")


def bad(turn_id: str = "bad") -> tuple[bytes, bytes, Headers]:
    key, value, headers = as_record(turn(turn_id))
    return key, value.replace(b'"content":"', b'"content":"","kontent":"'), headers


def parks(record: InputRecord, error: Corrupt) -> NewInput | None:
    return parked(record, error, lambda: BEGINNING)


def test_what_is_filed_says_which_turn_and_why() -> None:
    new = parks(InputRecord(*bad(), "turnstile.inputs.v1/3/141"), ERROR)
    assert new is not None
    assert (new.key, new.kind, new.input_id) == (KEY, PARKED, "parked:turnstile.inputs.v1/3/141")
    assert new.traceparent == TRACEPARENT
    assert read_request(new.kind, new.body) == TurnParked(
        tenant_id=TENANT,
        session_id=SESSION,
        at=at(),
        turn_id="bad",
        user_id="u1",
        reason="invalid_field",
    )


@pytest.mark.parametrize(
    "value",
    [None, b"", b"{", b"[]", b'{"tenant_id":"acme"}', b'{"session_id":"s","turn_id":7}', b"\xff"],
)
def test_nobody_waits_for_what_does_not_say_whose_it_is(value: bytes | None) -> None:
    key, _, headers = bad()
    assert parks(InputRecord(key, value, headers, "t/0/1"), ERROR) is None


def test_nobody_waits_for_what_is_no_turn_or_under_another_key() -> None:
    key, value, headers = bad()
    assert parks(InputRecord(*as_record(interrupting()), "t/0/1"), ERROR) is None
    assert parks(InputRecord(b"another", value, headers, "t/0/1"), ERROR) is None
    assert parks(InputRecord(key, value, headers, "t/0/1"), ERROR) is not None


@virtual
async def test_the_session_hears_of_it_in_its_place_and_the_letter_says_so() -> None:
    room = Room(parks=parks)
    room.topic.put(*as_record(turn("t1")))
    room.topic.put(*bad())
    room.topic.put(*as_record(turn("t2")))
    await room.taken()
    first, parking, last = await room.inbox()
    assert (first, parking.split(":")[0], last) == ("turn:t1", "parked", "turn:t2")
    ((letter, reason, _),) = room.buried
    assert reason == "invalid_field"
    assert ("dead_parked", b"1") in letter.headers


@virtual
async def test_by_default_nobody_waits() -> None:
    room = Room()
    room.topic.put(*bad())
    room.topic.put(*as_record(turn("t2")))
    await room.taken()
    assert await room.inbox() == ["turn:t2"]
    ((letter, _, _),) = room.buried
    assert "dead_parked" not in dict(letter.headers)


@virtual
async def test_a_bad_repeat_of_a_turn_that_was_taken_in_parks_nothing() -> None:
    room = Room(parks=parks)
    room.topic.put(*as_record(turn("t1")))
    await room.taken()
    room.topic.put(*bad("t1"))
    await room.taken()
    assert await room.inbox() == ["turn:t1"]
    assert len(room.buried) == 1


@virtual
async def test_nobody_publishes_a_parking() -> None:
    room = Room(parks=parks)
    key, value, headers = as_record(turn("t1"))
    kind = [(name, PARKED.encode() if name == "ce_type" else mark) for name, mark in headers]
    body = msgspec.json.encode({**msgspec.json.decode(value), "reason": "why"})
    room.topic.put(key, body, kind)
    await room.taken()
    assert await room.inbox() == []
    assert [reason for _, reason, _ in room.buried] == ["unknown_type"]


@virtual
async def test_a_drop_is_taken_in_though_its_tenant_is_not_served() -> None:
    room = Room(parks=parks)
    key, value, headers = as_record(replace(turn("bad"), input_id="ce:dropped:3/141"))
    fields = msgspec.json.decode(value)
    drop = {name: fields[name] for name in ("tenant_id", "session_id", "turn_id", "at")}
    kind = [(name, b"turn.dropped" if name == "ce_type" else mark) for name, mark in headers]
    room.topic.put(key, msgspec.json.encode({**drop, "tenant_id": "gone"}), kind)
    await room.taken()
    assert room.buried == []
    assert [unread.filed.input_id for unread in await room.store.unread(("gone", SESSION), 0)] == [
        "ce:dropped:3/141"
    ]
