"""An erasure that was heard is noted and its dead letters are marked, whenever the process dies."""

from __future__ import annotations

import asyncio
from collections.abc import Collection, Sequence
from datetime import UTC, datetime
from typing import Any

import pytest

from services.recorder.archive import ArchiveSink
from services.recorder.eraser import Erasing
from services.recorder.tombstones import Tombstone
from shared.bus.brake import Brake
from shared.bus.topics import DEAD
from shared.session.key import SessionKey
from tests.unit.recorder.records import FakeRecord, FakeWriter, value

pytestmark = pytest.mark.unit
KEY: SessionKey = ("acme", "ses_1")
ERASED = FakeRecord(value(9, type="session.erased", data={"reason": "requested"}), 9, erases=True)
NOW = datetime(2026, 11, 21, 10, 5, tzinfo=UTC)


class Died(BaseException):
    """The process ends here."""


class Outside:
    """What outlives a process: the archive's tombstones and the dead letters. One of its writes is the last one."""

    def __init__(self) -> None:
        self.noted: list[Tombstone] = []
        self.marked: list[SessionKey] = []
        self.lives = 1_000

    def write(self) -> None:
        if not self.lives:
            raise Died
        self.lives -= 1

    # The recorder's tombstones.
    def since(self, moment: float) -> tuple[set[SessionKey], float]:
        return {tombstone.key for tombstone in self.noted}, moment

    def put(self, tombstones: Collection[Tombstone]) -> None:
        self.write()
        self.noted += tombstones

    # Its producer.
    async def send_and_wait(
        self, topic: str, *, value: bytes | None, key: bytes, headers: Sequence[tuple[str, bytes]]
    ) -> None:
        assert (topic, value) == (DEAD.name, None)
        self.write()
        self.marked.append((dict(headers)["dead_settled_tenant"].decode(), key.decode()))


def process(outside: Any, writer: FakeWriter) -> Erasing:
    brake = Brake(ratio=1.0, consecutive=100)
    archive = ArchiveSink(writer, brake, chance=lambda: 0.5, clock=lambda: 0.0, most=100)
    return Erasing(archive, outside, outside, clock=lambda: NOW, now=lambda: 0.0, news=lambda: None)


@pytest.mark.parametrize("writes", [0, 1])
async def test_a_recorder_that_dies_on_the_way_leaves_neither_mark_nor_note_undone(
    writes: int,
) -> None:
    """Its batch was not committed: the next one is given it again."""
    outside = Outside()
    outside.lives = writes
    with pytest.raises((Died, asyncio.CancelledError)):
        await process(outside, FakeWriter()).bring_in([ERASED])
    outside.lives = 1_000
    await process(outside, FakeWriter()).bring_in([ERASED])
    assert {tombstone.key for tombstone in outside.noted} == {KEY}
    assert set(outside.marked) == {KEY}


async def test_a_session_that_was_noted_is_not_marked_again() -> None:
    outside, writer = Outside(), FakeWriter()
    await process(outside, writer).bring_in([ERASED])
    await process(outside, writer).bring_in([ERASED])
    assert (len(outside.noted), outside.marked) == (1, [KEY])
    assert writer.rows == []
