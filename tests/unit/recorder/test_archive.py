"""Patience while ClickHouse is away; halves when it refuses."""

from __future__ import annotations

import threading
from collections.abc import Sequence

import pytest

from services.recorder import archive as archive_module
from services.recorder.archive import ArchiveSink, Away, halves
from shared.bus.brake import Brake, Braked
from tests.unit.recorder.records import OURS, FakeRecord, FakeWriter, good, value

pytestmark = pytest.mark.unit


@pytest.fixture(autouse=True)
def _short_pauses(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(archive_module, "FIRST_PAUSE_S", 0.001)
    monkeypatch.setattr(archive_module, "LONGEST_PAUSE_S", 0.002)


def make(writer: FakeWriter, consecutive: int = 100, most: int = 1000) -> ArchiveSink:
    brake = Brake(ratio=1.0, consecutive=consecutive)
    return ArchiveSink(writer, brake, chance=lambda: 0.5, clock=lambda: 0.0, most=most)


def values(records: Sequence[FakeRecord]) -> list[bytes]:
    return [record.value or b"" for record in records]


async def test_a_batch_is_one_insert() -> None:
    writer, records = FakeWriter(), good(10)
    assert await make(writer).bring_in(records) == []
    assert writer.rows == values(records)
    assert writer.inserts == 1


class Meeting(FakeWriter):
    """No insert ends before another has begun."""

    def __init__(self) -> None:
        super().__init__()
        self._both = threading.Barrier(2, timeout=10)

    def insert(self, body: bytes) -> None:
        self._both.wait()
        super().insert(body)


async def test_rows_for_two_inserts_go_in_two_at_once() -> None:
    writer, records = Meeting(), [*good(10), *good(10, partition=1)]
    assert await make(writer, most=10).bring_in(records) == []
    assert writer.inserts == 2
    assert sorted(writer.rows) == sorted(values(records))


async def test_one_of_two_inserts_that_pulls_the_brake_ends_both() -> None:
    bad = [FakeRecord(value(seq), seq, headers=OURS) for seq in range(1, 20)]
    fine = [FakeRecord(value(seq, session_id="ses_2"), seq, partition=1) for seq in range(1, 20)]
    with pytest.raises(Braked):
        await make(FakeWriter(refuses=values(bad)), consecutive=5, most=20).bring_in([*bad, *fine])


def test_no_partition_is_in_both_halves_and_their_order_stays() -> None:
    sizes = (5, 1, 4, 2)
    rows = [record for part, size in enumerate(sizes) for record in good(size, partition=part)]
    mixed = sorted(rows, key=lambda record: record.offset)
    first, second = halves(mixed)
    assert not {row.partition for row in first} & {row.partition for row in second}
    assert {len(first), len(second)} == {6}
    for half in (first, second):
        assert half == [row for row in mixed if row in half]


def test_rows_of_one_partition_stay_together() -> None:
    assert sorted(map(len, halves(good(5)))) == [0, 5]


async def test_no_rows_are_no_insert() -> None:
    writer = FakeWriter()
    assert await make(writer).bring_in([]) == []
    assert writer.inserts == 0


async def test_an_insert_is_tried_until_it_is_in() -> None:
    writer, records = FakeWriter(*[Away("gone")] * 7), good(3)
    assert await make(writer).bring_in(records) == []
    assert writer.inserts == 8
    assert writer.rows == values(records)


async def test_only_the_refused_row_is_left_out() -> None:
    records = good(100)
    bad = value(1, type="bad")
    records[37] = FakeRecord(bad, 37)
    writer = FakeWriter(refuses=[bad])
    letters = await make(writer).bring_in(records)
    assert [letter.record for letter in letters] == [records[37]]
    assert letters[0].reason == "refused_by_clickhouse"
    assert writer.rows == values([*records[:37], *records[38:]])
    assert writer.inserts < 20


async def test_being_away_in_the_middle_of_halving_loses_nothing() -> None:
    records = good(4)
    bad = value(1, type="bad")
    records[2] = FakeRecord(bad, 2)
    writer = FakeWriter(Away("gone"), refuses=[bad])
    letters = await make(writer).bring_in(records)
    assert len(letters) == 1
    assert writer.rows == values([*records[:2], records[3]])


async def test_many_refusals_pull_the_brake() -> None:
    bad = [FakeRecord(value(seq), seq, headers=OURS) for seq in range(1, 20)]
    writer = FakeWriter(refuses=values(bad))
    with pytest.raises(Braked):
        await make(writer, consecutive=5).bring_in(bad)


async def test_refusals_of_what_strangers_wrote_pull_no_brake() -> None:
    bad = [FakeRecord(value(seq), seq) for seq in range(1, 20)]
    writer = FakeWriter(refuses=values(bad))
    assert len(await make(writer, consecutive=5).bring_in(bad)) == 19
