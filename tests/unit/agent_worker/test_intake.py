"""Intake: what is asked is filed once, what can't be used is a dead letter, and offsets come last."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass, field

import msgspec
import pytest

from services.agent_worker.intake import Intake, Parks
from services.agent_worker.poison import GATEWAY, Poison
from services.agent_worker.ports import Key, NewInput
from services.agent_worker.validate import Record
from shared.bus.brake import Braked
from shared.bus.envelope import Headers
from shared.errors import Transient
from tests.builders import BEGINNING, SESSION, TENANT, interrupting, turn
from tests.fakes.inputs import MemoryInputs
from tests.fakes.store import MemoryStore
from tests.unit.agent_worker.outside import as_record
from tests.unit.agent_worker.virtual_time import virtual

pytestmark = pytest.mark.unit
KEY: Key = (TENANT, SESSION)


class AwayStore(MemoryStore):
    """A store whose next filings fail; it remembers what offset was committed when each was tried."""

    def __init__(self, topic: MemoryInputs) -> None:
        super().__init__(lambda: BEGINNING)
        self.away = 0
        self.committed: list[int] = []
        self._topic = topic

    async def file(self, inputs: Sequence[NewInput]) -> set[Key]:
        self.committed.append(self._topic.committed)
        if self.away:
            self.away -= 1
            raise Transient("database_away", "it starts again")
        return await super().file(inputs)


@dataclass
class Room:
    """Intake and what it works with."""

    topic: MemoryInputs = field(default_factory=MemoryInputs)
    buried: list[tuple[Record, str, str]] = field(default_factory=list)
    news: list[set[Key]] = field(default_factory=list)
    parks: Parks | None = None

    def __post_init__(self) -> None:
        self.store = AwayStore(self.topic)
        self.poison = Poison(ratio=0.5, window=20)

    async def taken(self) -> None:
        """Run a member of the group until everything put is committed."""

        async def bury(record: Record, reason: str, detail: str) -> None:
            self.buried.append((record, reason, detail))

        intake = Intake(
            self.topic.member(),
            self.store,
            bury=bury,
            knows=lambda tenant: tenant == TENANT,
            news=self.news.append,
            poison=self.poison,
            parks=self.parks,
        )
        self.intake = intake
        running = asyncio.create_task(intake.run())
        for _ in range(10_000):
            if self.topic.committed == len(self.topic.records) or running.done() or intake.braked:
                break
            await asyncio.sleep(0.01)
        running.cancel()
        await asyncio.gather(running, return_exceptions=True)

    async def inbox(self) -> list[str]:
        return [unread.filed.input_id for unread in await self.store.unread(KEY, 0)]


@virtual
async def test_a_turn_is_filed_under_its_turn_id_and_others_under_their_record() -> None:
    room = Room()
    room.topic.put(*as_record(turn("t1")))
    room.topic.put(*as_record(interrupting(1)))
    await room.taken()
    assert await room.inbox() == ["turn:t1", "ce:interrupt:1"]
    assert room.news == [{KEY}]


@virtual
async def test_a_batch_that_comes_again_changes_nothing() -> None:
    """The process died after the rows and before the offsets."""
    room = Room()
    room.topic.put(*as_record(turn("t1")))
    await room.taken()
    room.topic.committed = 0
    room.topic.put(*as_record(turn("t1", "in other words")))
    await room.taken()
    assert await room.inbox() == ["turn:t1"]
    assert room.news == [{KEY}, set()]


@virtual
async def test_offsets_are_committed_after_the_rows_however_long_the_database_is_away() -> None:
    room = Room()
    room.store.away = 5
    room.topic.put(*as_record(turn("t1")))
    await room.taken()
    assert room.store.committed == [0] * 6
    assert room.topic.committed == 1
    assert await room.inbox() == ["turn:t1"]


def changed(**headers: bytes | None) -> tuple[bytes, bytes, Headers]:
    """A good record with other headers; None takes one away."""
    key, value, good = as_record(turn("t2"))
    kept = [(name, header) for name, header in good if name not in headers]
    return key, value, kept + [(name, new) for name, new in headers.items() if new is not None]


def valued(value: bytes | None) -> tuple[bytes, bytes | None, Headers]:
    key, _, headers = as_record(turn("t2"))
    return key, value, headers


def asking(**fields: object) -> tuple[bytes, bytes | None, Headers]:
    """A turn whose body has other fields."""
    body = msgspec.to_builtins(turn("t2").request)
    return valued(msgspec.json.encode({**body, **fields}))


POISON = {
    "no_headers": (b"s1", b"{}", [], "missing_header"),
    "no_type": (*changed(ce_type=None), "missing_header"),
    "no_id": (*changed(ce_id=None), "missing_header"),
    "old_spec": (*changed(ce_specversion=b"0.3"), "bad_header"),
    "not_utf8": (*changed(ce_id=b"\xff\xfe"), "bad_header"),
    "long_id": (*changed(ce_id=b"x" * 257), "bad_header"),
    "unknown_type": (*changed(ce_type=b"turn.wanted"), "unknown_type"),
    "other_subject": (*changed(ce_subject=b"s2"), "subject_mismatch"),
    "other_key": (b"s2", *changed()[1:], "key_mismatch"),
    "no_key": (None, *changed()[1:], "key_mismatch"),
    "no_value": (*valued(None), "invalid_json"),
    "no_json": (*valued(b"{"), "invalid_json"),
    "no_object": (*valued(b"[]"), "invalid_field"),
    "unknown_field": (*asking(colour="red"), "invalid_field"),
    "empty_content": (*asking(content=""), "invalid_field"),
    "blank_content": (*asking(content=" \n"), "invalid_field"),
    "no_blocks": (*asking(content=[]), "invalid_field"),
    "blank_block": (*asking(content=[{"type": "text", "text": " "}]), "invalid_field"),
    "bad_turn_id": (*asking(turn_id="a b"), "invalid_field"),
    "no_time": (*asking(at="yesterday"), "invalid_field"),
    "no_offset": (*asking(at="2026-11-21T10:00:00"), "invalid_field"),
    "stranger": (*asking(tenant_id="stranger"), "unknown_tenant"),
}


@pytest.mark.parametrize("name", POISON)
@virtual
async def test_poison_is_put_aside_and_holds_nothing_up(name: str) -> None:
    key, value, headers, reason = POISON[name]
    room = Room()
    room.topic.put(*as_record(turn("t1")))
    poison = room.topic.put(key, value, headers)
    room.topic.put(*as_record(turn("t3")))
    await room.taken()
    ((record, why, detail),) = room.buried
    assert (record, why) == (poison, reason)
    assert detail
    assert await room.inbox() == ["turn:t1", "turn:t3"]
    assert room.topic.committed == 3


@virtual
async def test_the_reason_names_the_field() -> None:
    room = Room()
    for record in (asking(colour="red"), asking(turn_id=""), changed(ce_subject=None)):
        room.topic.put(*record)
    await room.taken()
    details = [detail for _, _, detail in room.buried]
    assert "colour" in details[0]
    assert "$.turn_id" in details[1]
    assert "ce_subject" in details[2]


def unusable(source: str) -> tuple[bytes, bytes, Headers]:
    return changed(ce_subject=b"s2", ce_source=source.encode())


@virtual
async def test_poison_of_the_gateway_stops_intake_before_anything_of_the_batch_is_buried() -> None:
    room = Room()
    for _ in range(20):
        room.topic.put(*as_record(turn("t1")))
    await room.taken()
    for _ in range(40):
        room.topic.put(*unusable(GATEWAY))
    room.topic.put(*as_record(turn("t2")))
    await room.taken()
    assert room.buried == []
    assert room.topic.committed == 20
    assert "TURNSTILE_DEAD_RATIO" in room.intake.braked
    with pytest.raises(Braked, match="bad deploy"):
        await room.intake.check()


@virtual
async def test_one_broken_publisher_stops_nobody_else() -> None:
    room = Room()
    for _ in range(100):
        room.topic.put(*unusable("/other-service"))
    room.topic.put(*as_record(turn("t1")))
    await room.taken()
    assert len(room.buried) == 100
    assert await room.inbox() == ["turn:t1"]
    await room.intake.check()


@virtual
async def test_several_broken_publishers_look_like_our_fault() -> None:
    room = Room()
    for number in range(100):
        room.topic.put(*unusable(f"/service-{number % 3}"))
    await room.taken()
    assert room.intake.braked
    assert room.buried == []


@virtual
async def test_a_ratio_of_one_lets_everything_through() -> None:
    room = Room()
    room.poison = Poison(ratio=1.0, window=20)
    for _ in range(100):
        room.topic.put(*unusable(GATEWAY))
    await room.taken()
    assert len(room.buried) == 100
