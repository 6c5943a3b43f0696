"""Aborted transactions do not exist for anybody who reads the log, one left open holds up nothing but what lies
behind it, and how far a reader has come is right although the ends of transactions have offsets too."""

from __future__ import annotations

import asyncio
import time
import uuid
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

import msgspec
import pytest
from aiokafka import AIOKafkaProducer, TopicPartition
from aiokafka.admin import AIOKafkaAdminClient

from infra.kafka.topics import create_topics
from services.agent_worker.adapters import inputs
from services.agent_worker.adapters.clients import member_of
from services.agent_worker.adapters.inputs import KafkaInputConsumer
from services.gateway.adapters import kafka_consumers, kafka_log
from services.gateway.adapters.kafka_consumers import KafkaRecordConsumer, KafkaTail
from services.gateway.adapters.kafka_log import KafkaEventLog
from services.operator.audits import log as audits_log
from services.operator.dead import letters
from services.operator.failures import Impossible
from services.recorder import kafka as recorder_kafka
from services.recorder.consume import Recorder
from services.recorder.settings import RecorderSettings
from shared import metrics
from shared.bus.brake import Brake
from shared.bus.topics import DAY_MS, Topic
from shared.clock import utcnow
from shared.settings import KafkaSettings
from tests.contract.test_publisher import events_of

pytestmark = pytest.mark.contract
KEY = b"ses_tx"
SINCE = datetime(2020, 1, 1, tzinfo=UTC)


@dataclass
class Bus:
    """A topic of its own with one partition, and who writes to it. `group` is nobody else's."""

    bootstrap: str
    topic: str
    plain: AIOKafkaProducer
    group: str

    @property
    def settings(self) -> KafkaSettings:
        return KafkaSettings(kafka_bootstrap=self.bootstrap)

    @property
    def place(self) -> TopicPartition:
        return TopicPartition(self.topic, 0)

    async def put(self, *values: bytes) -> None:
        for value in values:
            await self.plain.send_and_wait(self.topic, value, key=KEY)

    @asynccontextmanager
    async def transaction(self) -> AsyncIterator[Any]:
        """A producer with an open transaction; what ends it is the caller's."""
        producer: Any = AIOKafkaProducer(
            bootstrap_servers=self.bootstrap, transactional_id=f"tx-{uuid.uuid4().hex[:8]}"
        )
        await producer.start()
        try:
            await producer.begin_transaction()
            yield producer
        finally:
            await producer.stop()

    async def put_within(self, end: str, *values: bytes) -> None:
        """A transaction with these records, ended by `commit` or `abort`."""
        async with self.transaction() as producer:
            for value in values:
                await producer.send_and_wait(self.topic, value, key=KEY)
            await (producer.commit_transaction if end == "commit" else producer.abort_transaction)()

    async def committed(self) -> int:
        """The group's offset."""
        admin: Any = AIOKafkaAdminClient(bootstrap_servers=self.bootstrap)
        await admin.start()
        try:
            found = await admin.list_consumer_group_offsets(self.group)
        finally:
            await admin.close()
        return int(found[self.place].offset) if self.place in found else -1

    def behind(self) -> tuple[float, float]:
        """The group's lag, and what it can't read yet."""
        labels = {"group": self.group, "topic": self.topic}
        return (
            metrics.read("turnstile_consumer_lag_records", labels),
            metrics.read("turnstile_consumer_held_records", labels),
        )


@pytest.fixture
async def bus(kafka_bootstrap: str, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Bus]:
    topic, group = (f"{word}-{uuid.uuid4().hex[:8]}" for word in ("tx", "group"))
    about = Topic(topic, "records of a test", "", "", retention_ms=DAY_MS, partitions=1)
    await create_topics(kafka_bootstrap, [about])
    for module, names in {
        kafka_consumers: ("INPUTS", "EVENTS", "PREVIEWS"),
        kafka_log: ("EVENTS",),
        letters: ("DEAD",),
        audits_log: ("EVENTS",),
    }.items():
        for name in names:
            monkeypatch.setattr(module, name, about)
    monkeypatch.setattr(kafka_consumers, "GROUP", group)
    monkeypatch.setattr(inputs, "GROUP", group)
    monkeypatch.setattr("services.recorder.consume.GROUP", group)
    producer = AIOKafkaProducer(bootstrap_servers=kafka_bootstrap, acks="all")
    await producer.start()
    yield Bus(kafka_bootstrap, topic, producer, group)
    await producer.stop()


async def eventually(holds: Callable[[], Awaitable[bool]], what: str) -> None:
    async with asyncio.timeout(20):
        while not await holds():  # noqa: ASYNC110 - polled until the deadline
            await asyncio.sleep(0.05)


# ---- what each reader sees: records and, behind them, only the ends of transactions ----------------------------

Read = Callable[[Bus, int], Awaitable[list[bytes]]]


async def by_intake(bus: Bus, count: int) -> list[bytes]:
    member = KafkaInputConsumer(lambda: member_of(bus.settings, "test", bus.topic, bus.group))
    found: list[bytes] = []
    try:
        while len(found) < count:
            found += [record.value or b"" for record in await member.batch()]
            await member.commit()
    finally:
        await member.leave()
    return found


async def by_projector(bus: Bus, count: int) -> list[bytes]:
    feed, found = KafkaRecordConsumer(bus.settings), list[bytes]()
    try:
        while len(found) < count:
            found += [record.value for record in await feed.batch(0.2)]
            await feed.commit()
    finally:
        await feed.stop()
    return found


async def by_recorder(bus: Bus, count: int) -> list[bytes]:
    consumer, found = recorder_kafka.consumer(bus.settings, bus.group), list[bytes]()
    await consumer.start()
    consumer.subscribe([bus.topic])
    try:
        while len(found) < count:
            batches = await consumer.getmany(timeout_ms=200)
            found += [record.value or b"" for records in batches.values() for record in records]
    finally:
        await consumer.stop()
    return found


async def by_scan(bus: Bus, count: int) -> list[bytes]:
    """A scan ends by itself: where records end, or an open transaction begins."""
    scan = KafkaEventLog(bus.settings).scan(("acme", KEY.decode()), SINCE, 0)
    return [entry.value async for entry in scan]


async def by_audit(bus: Bus, count: int) -> list[bytes]:
    wanted = {("acme", KEY.decode()): set(range(1, 100))}
    found = audits_log.events(bus.bootstrap, {}, wanted)
    return [value async for _, _, value in found]


async def by_operator(bus: Bus, count: int) -> list[bytes]:
    found = await letters.newest(bus.bootstrap, {}, limit=99, scan=99, wanted=lambda _: True)
    places = [(letter.partition, letter.offset) for letter in found]
    whole = [await letters.one(bus.bootstrap, {}, *place) for place in places]
    return [letter.value or b"" for letter in whole]


READERS: list[Read] = [by_intake, by_projector, by_recorder, by_scan, by_audit, by_operator]


def event(seq: int) -> bytes:
    """The value of an event, which every reader takes."""
    told = events_of(KEY.decode())[0]
    return msgspec.json.encode(msgspec.structs.replace(told, tenant_id="acme", seq=seq))


# How long a scan waits for a record that does not come; nothing else in it takes so long on a busy machine.
STALLED_S = 20.0


@pytest.mark.parametrize("read", READERS)
async def test_what_was_aborted_does_not_exist(
    bus: Bus, read: Read, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(kafka_log, "POLL_SECONDS", STALLED_S)
    await bus.put_within("commit", event(1))
    await bus.put_within("abort", event(2), event(3))
    await bus.put(event(4))
    await bus.put_within("abort", event(5))
    began = time.monotonic()
    async with asyncio.timeout(2 * STALLED_S):
        assert await read(bus, 2) == [event(1), event(4)]
    if read is by_scan:
        assert time.monotonic() - began < STALLED_S, "it waited for records that never come"


@pytest.mark.parametrize("read", READERS)
async def test_an_open_transaction_holds_up_only_what_is_behind_it(bus: Bus, read: Read) -> None:
    await bus.put(event(1))
    async with bus.transaction() as producer:
        await producer.send_and_wait(bus.topic, event(2), key=KEY)
        await bus.put(event(3))
        async with asyncio.timeout(30):
            assert await read(bus, 1) == [event(1)]
        await producer.abort_transaction()
    if read in (by_intake, by_projector):
        assert await read(bus, 1) == [event(3)]
    elif read in (by_scan, by_audit, by_operator):
        assert await read(bus, 2) == [event(1), event(3)]


async def test_the_live_tail_hears_nothing_of_what_was_aborted(bus: Bus) -> None:
    async with bus.transaction() as open_one, asyncio.timeout(30):
        await open_one.send_and_wait(bus.topic, event(1), key=KEY)
        tail = KafkaTail(bus.settings).records()
        assert await anext(tail) == []  # it begins although a transaction is open
        await bus.put_within("abort", event(2))
        await bus.put(event(3))
        await open_one.commit_transaction()
        found: list[bytes] = []
        while len(found) < 2:
            found += [record.value for record in await anext(tail)]
        assert found == [event(1), event(3)]
        await tail.aclose()  # type: ignore[attr-defined]


async def test_a_place_that_holds_no_letter_is_said(bus: Bus) -> None:
    await bus.put_within("abort", event(1))
    await bus.put(event(2))
    for offset in (0, 1):
        with pytest.raises(Impossible, match="no record"):
            async with asyncio.timeout(20):
                await letters.one(bus.bootstrap, {}, 0, offset)


# ---- how far they have come -----------------------------------------------------------------------------------


class Kept:
    """An archive and dead letters in memory."""

    def __init__(self) -> None:
        self.rows: list[bytes] = []

    async def bring_in(self, rows: Any) -> list[Any]:
        self.rows += [row.value for row in rows]
        return []

    async def send(self, found: Any) -> None:
        raise AssertionError(found)


@asynccontextmanager
async def intake(bus: Bus) -> AsyncIterator[None]:
    member = KafkaInputConsumer(lambda: member_of(bus.settings, "test", bus.topic, bus.group))

    async def run() -> None:
        while True:
            await member.batch()
            await member.commit()

    async with running(run()):
        yield
    await member.leave()


@asynccontextmanager
async def projector(bus: Bus) -> AsyncIterator[None]:
    feed = KafkaRecordConsumer(bus.settings)

    async def run() -> None:
        while True:
            if await feed.batch(0.2):
                await feed.commit()

    async with running(run()):
        yield
    await feed.stop()


@asynccontextmanager
async def recorder(bus: Bus) -> AsyncIterator[None]:
    consumer, kept = recorder_kafka.consumer(bus.settings, bus.group), Kept()
    await consumer.start()
    settings = RecorderSettings(recorder_batch_seconds=0.1)
    brake = Brake(ratio=1.0)
    own = Recorder(consumer, kept, kept, brake, settings, utcnow, bus.topic)
    async with running(own.run()):
        yield
    await consumer.stop()


@asynccontextmanager
async def running(work: Any) -> AsyncIterator[None]:
    task = asyncio.create_task(work)
    try:
        yield
        assert not task.done(), task
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


MEMBERS = [intake, projector, recorder]


@pytest.mark.parametrize("member", MEMBERS)
async def test_a_member_that_read_all_is_not_behind(bus: Bus, member: Any) -> None:
    """The end of the log is a marker, and before it lies what was aborted."""
    async with member(bus):
        await bus.put_within("commit", event(1))
        await bus.put_within("abort", *map(event, range(2, 50)))
        end = 1 + 1 + 48 + 1

        async def all_read() -> bool:
            return await bus.committed() == end and bus.behind() == (0, 0)

        await eventually(all_read, "the group has committed the end of the log")


@pytest.mark.parametrize("member", MEMBERS)
async def test_what_an_open_transaction_holds_is_no_lag_and_is_said(bus: Bus, member: Any) -> None:
    async with member(bus):
        await bus.put(event(1))
        async with bus.transaction() as producer:
            await producer.send_and_wait(bus.topic, event(2), key=KEY)
            await bus.put(event(3))

            async def is_said() -> bool:
                return await bus.committed() == 1 and bus.behind() == (0, 2)

            await eventually(is_said, "what is held is said")
            await producer.commit_transaction()

        async def all_read() -> bool:
            return await bus.committed() == 4 and bus.behind() == (0, 0)

        await eventually(all_read, "all of it is read")
