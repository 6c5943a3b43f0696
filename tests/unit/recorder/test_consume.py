"""Read, insert, commit: in this order, through rebalances, failures and a stop."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from datetime import UTC, datetime

import pytest
from aiokafka.errors import GroupAuthorizationFailedError, KafkaError, UnknownError

from services.recorder import consume
from services.recorder.archive import ArchiveSink
from services.recorder.consume import Recorder
from services.recorder.ports import BadRecord
from services.recorder.settings import RecorderSettings
from shared.bus.brake import Brake, Braked
from tests.unit.recorder.records import (
    OURS,
    FakeLog,
    FakeRecord,
    FakeWriter,
    good,
    value,
)

pytestmark = pytest.mark.unit


class Letters:
    """Keeps what is sent."""

    def __init__(self) -> None:
        self.sent: list[BadRecord] = []

    async def send(self, found: Sequence[BadRecord]) -> None:
        self.sent += found


class Gate(FakeWriter):
    """Inserts wait until the gate is open."""

    def __init__(self) -> None:
        super().__init__()
        self.open = threading.Event()

    def insert(self, body: bytes) -> None:
        assert self.open.wait(10)
        super().insert(body)


def make(
    log: FakeLog, writer: FakeWriter, letters: Letters | None = None, rows: int = 10
) -> Recorder:
    brake = Brake(ratio=1.0, consecutive=5)
    archive = ArchiveSink(writer, brake, chance=lambda: 0.5, clock=lambda: 0.0, most=10)
    settings = RecorderSettings(recorder_batch_rows=rows, recorder_batch_seconds=0.02)
    at = datetime(2026, 11, 21, tzinfo=UTC)
    return Recorder(log, archive, letters or Letters(), brake, settings, lambda: at)


@asynccontextmanager
async def running(recorder: Recorder) -> AsyncIterator[asyncio.Task[None]]:
    task = asyncio.create_task(recorder.run())
    try:
        yield task
    finally:
        recorder.stop()
        await asyncio.wait({task}, timeout=10)
        assert task.done()


async def until(condition: Callable[[], bool]) -> None:
    async with asyncio.timeout(5):
        while not condition():  # noqa: ASYNC110 - any condition, polled until the deadline
            await asyncio.sleep(0.002)


async def test_batches_go_in_order_and_are_committed() -> None:
    log, writer = FakeLog(good(35)), FakeWriter()
    async with running(make(log, writer)):
        await until(lambda: log.committed == 35)
    assert writer.rows == [record.value for record in log.records]
    assert log.commits == sorted(log.commits)


async def test_no_offset_is_committed_before_its_batch_is_archived() -> None:
    log, writer = FakeLog(good(25)), Gate()
    async with running(make(log, writer)):
        await until(lambda: log.at >= 20)
        assert log.commits == []
        writer.open.set()
        await until(lambda: log.committed == 25)


async def test_no_more_than_three_batches_are_held_while_clickhouse_is_away(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(consume, "PAUSE_AFTER_S", 0.01)
    log, writer = FakeLog(good(500)), Gate()
    async with running(make(log, writer)):
        await until(lambda: log.paused)
        polls = log.polls
        await until(lambda: log.polls > polls + 3)
        assert log.at <= 30, "one batch in flight, one of twice its size in hand"
        writer.open.set()
        await until(lambda: log.committed == 500)
        assert not log.paused
    assert len(writer.rows) == 500


async def test_a_full_batch_grows_while_the_one_before_it_is_on_its_way() -> None:
    log, writer = FakeLog(good(10)), Gate()
    async with running(make(log, writer)):
        await until(lambda: log.at == 10)
        log.more(good(15, first=10))
        await until(lambda: log.at == 25)
        writer.open.set()
        await until(lambda: log.committed == 25)
    assert writer.inserts == 2
    assert writer.rows == [record.value for record in log.records]


async def test_a_growing_batch_that_is_revoked_is_read_again() -> None:
    log, writer = FakeLog(good(10)), Gate()
    async with running(make(log, writer)):
        await until(lambda: log.at == 10)
        log.more(good(15, first=10))
        await until(lambda: log.at == 25)
        rebalance = asyncio.create_task(log.rebalance())
        await asyncio.sleep(0)
        writer.open.set()
        await rebalance
        await until(lambda: log.committed == 25)
    assert set(writer.rows) == {record.value for record in log.records}
    assert log.commits == sorted(log.commits)


async def test_bad_records_become_letters_before_the_commit() -> None:
    bad = FakeRecord(b"no json", 3)
    log, letters = FakeLog([*good(3), bad, *good(3, first=4)]), Letters()
    async with running(make(log, FakeWriter(), letters)):
        await until(lambda: log.committed == 7)
    assert [letter.record for letter in letters.sent] == [bad]
    assert letters.sent[0].reason == "invalid_json"


async def test_the_brake_stops_the_recorder_with_nothing_committed() -> None:
    bad = [FakeRecord(b"{}", n, headers=OURS) for n in range(9)]
    log, letters = FakeLog(bad), Letters()
    async with running(make(log, FakeWriter(), letters)) as task:
        with pytest.raises(Braked):
            await task
    assert log.commits == []
    assert letters.sent == []


async def test_what_strangers_write_stops_nobody_however_much_it_is() -> None:
    rubbish = [FakeRecord(b"{}", n, headers=[("ce_source", b"/other")]) for n in range(900)]
    log, letters = FakeLog([*rubbish, *good(1, first=900)]), Letters()
    writer = FakeWriter()
    async with running(make(log, writer, letters, rows=300)):
        await until(lambda: log.committed == 901)
    assert len(letters.sent) == 900
    assert writer.rows == [log.records[-1].value]


async def test_a_rebalance_drops_what_was_only_read() -> None:
    log, writer = FakeLog(good(15)), FakeWriter()
    recorder = make(log, writer, rows=1000)
    async with running(recorder):
        await until(lambda: log.at == 15)
        await log.rebalance()
        await until(lambda: log.committed == 15)
    assert set(writer.rows) == {record.value for record in log.records}


async def test_a_rebalance_waits_for_the_batch_in_flight() -> None:
    log, writer = FakeLog(good(10)), Gate()
    async with running(make(log, writer)):
        await until(lambda: log.at == 10)
        moving = asyncio.create_task(log.rebalance())
        await asyncio.sleep(0)
        assert not moving.done()
        writer.open.set()
        await moving
        assert log.committed == 10


async def test_nothing_in_hand_goes_out_while_a_rebalance_waits() -> None:
    """It would be inserted, not committed, and come again."""
    log, writer = FakeLog(good(30)), Gate()
    async with running(make(log, writer)):
        await until(lambda: log.at == 30)
        moving = asyncio.create_task(log.rebalance())
        await asyncio.sleep(0)
        writer.open.set()
        await moving
        assert log.committed == 10
        await until(lambda: log.committed == 30)
    assert writer.rows == [record.value for record in log.records], "each once"


async def test_a_batch_that_outlives_its_partitions_commits_nothing(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(consume, "REVOKE_TIMEOUT_S", 0.01)
    log, writer = FakeLog(good(10)), Gate()
    recorder = make(log, writer)
    # Nothing is committed at rest, which would be where reading begins again: one full batch, then a long silence.
    recorder._settings = RecorderSettings(recorder_batch_rows=10, recorder_batch_seconds=60)
    async with running(recorder):
        await until(lambda: log.at == 10)
        await log.rebalance()
        log.records = log.records[:0]
        writer.open.set()
        await until(lambda: len(writer.rows) == 10)
    assert log.commits == []


class SlowLetters(Letters):
    """Letters are sent when somebody says so."""

    def __init__(self) -> None:
        super().__init__()
        self.go = asyncio.Event()

    async def send(self, found: Sequence[BadRecord]) -> None:
        await self.go.wait()
        await super().send(found)


async def test_the_next_batch_is_inserted_while_letters_wait_and_committed_behind_them() -> None:
    bad = FakeRecord(b"no json", 9)
    log, writer, letters = (
        FakeLog([*good(9), bad, *good(10, first=10)]),
        FakeWriter(),
        SlowLetters(),
    )
    async with running(make(log, writer, letters)):
        await until(lambda: len(writer.rows) == 19)
        log.more(good(20, first=20))
        await until(lambda: log.at >= 30)
        assert log.commits == []
        assert len(writer.rows) == 19, "no third batch before the first is whole"
        letters.go.set()
        await until(lambda: log.committed == 40)
    assert log.commits == sorted(log.commits)


class NoLetters(Letters):
    """The log takes no letters any more."""

    def __init__(self, writer: FakeWriter, rows: int) -> None:
        super().__init__()
        self._writer, self._rows = writer, rows

    async def send(self, found: Sequence[BadRecord]) -> None:
        await until(lambda: len(self._writer.rows) >= self._rows)
        raise RuntimeError("no letters")


async def test_nothing_is_committed_behind_a_batch_that_failed() -> None:
    bad = FakeRecord(b"no json", 9)
    log, writer = FakeLog([*good(9), bad, *good(10, first=10)]), FakeWriter()
    async with running(make(log, writer, NoLetters(writer, 19))) as task:
        with pytest.raises(RuntimeError, match="no letters"):
            await task
    assert log.commits == []


async def test_what_comes_after_a_silence_goes_at_once_and_the_next_batch_has_its_time() -> None:
    log, writer = FakeLog(good(3)), FakeWriter()
    recorder = make(log, writer, rows=1000)
    recorder._settings = RecorderSettings(recorder_batch_seconds=60)
    async with running(recorder):
        await until(lambda: log.committed == 3)
        log.more(good(4, first=3))
        await until(lambda: log.at == 7)
        assert log.committed == 3
    assert log.committed == 7, "a stop brings in what is in hand"


async def test_stop_is_bounded_when_clickhouse_is_away(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(consume, "STOP_TIMEOUT_S", 0.05)
    log, writer = FakeLog(good(7)), Gate()
    async with running(make(log, writer)) as task:
        await until(lambda: log.at == 7)
    assert task.exception() is None
    assert log.commits == []
    writer.open.set()


async def test_a_failure_in_flight_ends_the_run_without_more_traffic() -> None:
    log, writer = FakeLog(good(3)), FakeWriter(RuntimeError("a bug"))
    async with running(make(log, writer)) as task:
        with pytest.raises(RuntimeError, match="a bug"):
            await asyncio.wait_for(task, 5)
    assert log.commits == []


async def test_a_full_batch_by_size_goes_out() -> None:
    log, writer = (
        FakeLog([FakeRecord(value(n + 1, data={"t": "x" * 900}), n) for n in range(9)]),
        (FakeWriter()),
    )
    recorder = make(log, writer, rows=1000)
    recorder._settings = RecorderSettings(recorder_batch_bytes=4096, recorder_batch_seconds=0.02)
    async with running(recorder):
        await until(lambda: log.committed == 9)
    assert log.commits[0] <= 4


@pytest.mark.parametrize("refusal", [UnknownError(), KafkaError(repr(UnknownError()))])
async def test_a_broker_that_failed_inside_is_asked_again(
    refusal: KafkaError, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One that stood still answers a join with that, once."""
    monkeypatch.setattr(consume, "RETRY_S", 0.0)
    log, writer = FakeLog(good(10)), FakeWriter()
    log.refusals = [refusal]
    async with running(make(log, writer)):
        await until(lambda: log.committed == 10)


async def test_a_reader_that_may_not_read_ends() -> None:
    log = FakeLog(good(1))
    log.refusals = [GroupAuthorizationFailedError("turnstile.recorder")]
    with pytest.raises(GroupAuthorizationFailedError):
        await make(log, FakeWriter()).run()
