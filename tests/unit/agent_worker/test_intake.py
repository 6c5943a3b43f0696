"""Intake: what is asked is filed once, what can't be used is a dead letter, and offsets come last."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass, field

import msgspec
import pytest

from services.agent_worker.inbox.intake import Intake, Parks
from services.agent_worker.inbox.validate import Bad
from services.agent_worker.ports import InputRecord, NewInput
from shared import metrics
from shared.bus.brake import Braked, IntakeBrake
from shared.bus.envelope import GATEWAY, Headers
from shared.errors import Transient
from shared.ownership import Binding, Ownership
from shared.session.key import SessionKey
from tests.builders import BEGINNING, SESSION, TENANT, interrupting, turn
from tests.fakes.inputs import MemoryInputTopic
from tests.fakes.owners import MemoryOwners
from tests.fakes.store import MemoryStore
from tests.unit.agent_worker.outside import as_record
from tests.unit.agent_worker.virtual_time import virtual

pytestmark = pytest.mark.unit
PAUSE_S = 5.0
KEY: SessionKey = (TENANT, SESSION)


class AwayStore(MemoryStore):
    """A store whose next filings fail; it remembers what offset was committed when each was tried."""

    def __init__(self, topic: MemoryInputTopic) -> None:
        super().__init__(lambda: BEGINNING)
        self.away = 0
        self.committed: list[int] = []
        self._topic = topic

    async def file(self, inputs: Sequence[NewInput]) -> set[SessionKey]:
        self.committed.append(self._topic.committed)
        if self.away:
            self.away -= 1
            raise Transient("database_away", "it starts again")
        return await super().file(inputs)


@dataclass
class Room:
    """Intake and what it works with."""

    topic: MemoryInputTopic = field(default_factory=MemoryInputTopic)
    buried: list[tuple[InputRecord, str, str]] = field(default_factory=list)
    news: list[set[SessionKey]] = field(default_factory=list)
    parks: Parks | None = None
    owners: MemoryOwners = field(default_factory=MemoryOwners)

    def __post_init__(self) -> None:
        self.store = AwayStore(self.topic)
        self.brake = IntakeBrake(ratio=0.5, window=20)

    async def taken(self, until: int = 0) -> None:
        """Run a member of the group until everything put is committed or the brake holds it, or until so many are
        committed, braked or not."""

        async def bury(bad: Sequence[Bad]) -> None:
            self.buried += [(record, error.reason, str(error)) for record, error in bad]

        intake = Intake(
            self.topic.member(),
            self.store,
            bury=bury,
            knows=lambda tenant: tenant == TENANT,
            news=self.news.append,
            brake=self.brake,
            pause=PAUSE_S,
            parks=self.parks,
            strange=Ownership(
                self.owners,
                unbound="bind",
                defaults=(),
                clock=lambda: BEGINNING,
                monotonic=lambda: 0.0,
            ).strange,
        )
        self.intake = intake
        running = asyncio.create_task(intake.run())
        for _ in range(10_000):
            done = self.topic.committed == (until or len(self.topic.records))
            if running.done() or done or (intake.braked and not until):
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


def published(source: str, number: int) -> tuple[bytes, bytes, Headers]:
    """An interrupt of a service that counts its inputs."""
    key, value, headers = as_record(interrupting(number))
    own = {"ce_source": source.encode(), "ce_id": str(number).encode()}
    return key, value, [(name, own.get(name, text)) for name, text in headers]


@virtual
async def test_services_that_count_alike_do_not_swallow_each_others_inputs() -> None:
    room = Room()
    for number in (1, 2):
        room.topic.put(*published("/orders", number))
        room.topic.put(*published("/returns", number))
    await room.taken()
    found = await room.inbox()
    assert len(set(found)) == 4
    room.topic.put(*published("/orders", 1))
    room.topic.put(*published("/returns", 2))
    await room.taken()
    assert await room.inbox() == found, "each is still one, however often it comes"


@virtual
async def test_what_an_earlier_version_took_in_is_not_taken_in_again() -> None:
    room = Room()
    _, value, _ = published("/orders", 1)
    await room.store.file([NewInput(KEY, "ce:1", "interrupt.requested", value)])
    room.topic.put(*published("/orders", 1))
    await room.taken()
    assert await room.inbox() == ["ce:1"]


@virtual
async def test_an_id_of_the_longest_is_filed_whoever_publishes_it() -> None:
    room = Room()
    key, value, headers = published("/orders", 1)
    long = [(name, b"x" * 256 if name == "ce_id" else text) for name, text in headers]
    room.topic.put(key, value, long)
    await room.taken()
    ((found),) = await room.inbox()
    assert len(found) <= 300


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


BAD_RECORDS = {
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


@pytest.mark.parametrize("name", BAD_RECORDS)
@virtual
async def test_a_bad_record_is_put_into_the_dead_letters_and_holds_nothing_up(name: str) -> None:
    key, value, headers, reason = BAD_RECORDS[name]
    room = Room()
    room.topic.put(*as_record(turn("t1")))
    bad = room.topic.put(key, value, headers)
    room.topic.put(*as_record(turn("t3")))
    await room.taken()
    ((record, why, detail),) = room.buried
    assert (record, why) == (bad, reason)
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


def unusable(source: str, id: str = f"in_{1:032x}") -> tuple[bytes, bytes, Headers]:
    return changed(ce_subject=b"s2", ce_source=source.encode(), ce_id=id.encode())


def usable(turn_id: str) -> tuple[bytes, bytes, Headers]:
    """A good turn that the gateway published."""
    key, value, headers = as_record(turn(turn_id))
    own = {"ce_source": GATEWAY.encode(), "ce_id": f"in_{2:032x}".encode()}
    return key, value, [(name, own.get(name, text)) for name, text in headers]


@virtual
async def test_bad_records_of_the_gateway_stop_intake_before_anything_of_the_batch_is_buried() -> (
    None
):
    room = Room()
    for _ in range(20):
        room.topic.put(*usable("t1"))
    await room.taken()
    for _ in range(40):
        room.topic.put(*unusable(GATEWAY))
    room.topic.put(*as_record(turn("t2")))
    await room.taken()
    assert room.buried == []
    assert room.topic.committed == 20
    assert "TURNSTILE_DEAD_RATIO" in room.intake.braked
    assert metrics.read("turnstile_intake_braked") == 1
    with pytest.raises(Braked, match="bad deploy"):
        await room.intake.check()


@virtual
async def test_the_brake_lets_go_by_itself_and_what_waited_is_taken_in() -> None:
    room = Room()
    for _ in range(400):
        room.topic.put(*unusable(GATEWAY))
    room.topic.put(*usable("t1"))
    began = asyncio.get_running_loop().time()
    await room.taken(until=401)
    assert asyncio.get_running_loop().time() - began >= PAUSE_S
    assert len(room.buried) == 400
    assert await room.inbox() == ["turn:t1"]


@virtual
async def test_after_a_pause_few_bad_ones_of_the_gateway_hold_intake_again() -> None:
    room = Room()
    for _ in range(40):
        room.topic.put(*unusable(GATEWAY))
    running = asyncio.create_task(room.taken(until=41))
    await asyncio.sleep(PAUSE_S + 1)
    assert room.intake.braked
    assert len(room.buried) == 40
    room.topic.put(*usable("t1"))
    await running
    assert not room.intake.braked
    assert await room.inbox() == ["turn:t1"]
    await room.intake.check()
    assert metrics.read("turnstile_intake_braked") == 0


@pytest.mark.parametrize("publishers", [1, 3, 5_000])
@virtual
async def test_strangers_never_stop_anybody_however_many_they_are(publishers: int) -> None:
    room = Room()
    for number in range(5_000):
        room.topic.put(*unusable(f"/service-{number % publishers}"))
    room.topic.put(*as_record(turn("t1")))
    await room.taken()
    assert len(room.buried) == 5_000
    assert await room.inbox() == ["turn:t1"]
    await room.intake.check()


@virtual
async def test_headers_copied_from_the_gateway_with_ids_of_ones_own_do_not_count() -> None:
    room = Room()
    for number in range(100):
        room.topic.put(*unusable(GATEWAY, id=str(number)))
    await room.taken()
    assert len(room.buried) == 100
    await room.intake.check()


@virtual
async def test_what_strangers_write_does_not_hide_what_the_gateway_does() -> None:
    """Their good records are no sign that the gateway's are understood."""
    room = Room()
    for _ in range(40):
        room.topic.put(*as_record(turn("t1")))
        room.topic.put(*unusable(GATEWAY))
    await room.taken()
    assert room.intake.braked


@virtual
async def test_a_ratio_of_one_lets_everything_through() -> None:
    room = Room()
    room.brake = IntakeBrake(ratio=1.0, window=20)
    for _ in range(100):
        room.topic.put(*unusable(GATEWAY))
    await room.taken()
    assert len(room.buried) == 100


def with_file(turn_id: str, file_id: str) -> tuple[bytes, bytes, Headers]:
    source = {"type": "file", "file_id": file_id}
    return as_record(turn(turn_id, content=[{"type": "image", "source": source}]))


@virtual
async def test_what_refers_to_another_tenants_things_is_a_dead_letter() -> None:
    room = Room(owners=MemoryOwners([Binding(kind="file", id="file_b", tenant_id="other")]))
    room.topic.put(*with_file("t1", "file_b"))
    room.topic.put(*with_file("t2", "file_a"))
    room.topic.put(*as_record(turn("t3")))
    await room.taken()
    assert await room.inbox() == ["turn:t2", "turn:t3"]
    ((_, reason, words),) = room.buried
    assert reason == "unknown_reference"
    assert words.endswith("at `$.content[0].source.file_id`")
    assert room.owners.rows["file", "file_a"].tenant_id == TENANT


@virtual
async def test_who_names_nothing_asks_nothing() -> None:
    room = Room()
    room.topic.put(*as_record(turn("t1")))
    await room.taken()
    assert room.owners.asked == []


@virtual
async def test_who_names_something_waits_for_the_database() -> None:
    room = Room()
    room.owners.down = True
    room.topic.put(*with_file("t1", "file_a"))
    taking = asyncio.create_task(room.taken())
    await asyncio.sleep(5)
    assert await room.inbox() == []
    assert room.topic.committed == 0
    room.owners.down = False
    await taking
    assert await room.inbox() == ["turn:t1"]
