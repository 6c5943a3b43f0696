"""One suite for the part of a Kafka consumer that the recorder uses: the fake of its unit tests, and Kafka."""

from __future__ import annotations

import asyncio
import uuid
from collections.abc import AsyncIterator, Collection, Sequence
from contextlib import asynccontextmanager
from typing import Any, Protocol

import pytest
from aiokafka import (
    AIOKafkaProducer,
    ConsumerRebalanceListener,
    ConsumerRecord,
    TopicPartition,
)

from infra.kafka.topics import create_topics
from services.recorder import kafka
from services.recorder.ports import EventConsumer, Record
from services.recorder.rows import KeptRecord
from shared.bus.parts import Joiner
from shared.bus.topics import DAY_MS, Topic
from shared.kafka import connected
from shared.settings import KafkaSettings
from tests.unit.recorder.records import TOPIC, FakeLog, FakeRecord

pytestmark = pytest.mark.contract


class Listener(ConsumerRebalanceListener):
    """Forgets; the recorder's own is tested where it is."""

    async def on_partitions_revoked(self, revoked: Collection[TopicPartition]) -> None: ...
    async def on_partitions_assigned(self, assigned: Collection[TopicPartition]) -> None: ...


class Bus(Protocol):
    """A topic of one partition that is read by one member of a group after the other."""

    topic: str

    async def put(self, *values: bytes) -> None: ...
    def log(self) -> Any: ...


class MemoryBus:
    topic = TOPIC

    def __init__(self) -> None:
        self._log = FakeLog()

    async def put(self, *values: bytes) -> None:
        first = len(self._log.records)
        self._log.records += [FakeRecord(value, first + n) for n, value in enumerate(values)]

    @asynccontextmanager
    async def log(self) -> AsyncIterator[EventConsumer]:
        self._log.paused = False
        self._log.at = self._log.committed
        yield self._log


class KafkaBus:
    def __init__(self, bootstrap: str, topic: str, producer: AIOKafkaProducer) -> None:
        self.topic = topic
        self._bootstrap = bootstrap
        self._producer = producer

    async def put(self, *values: bytes) -> None:
        for value in values:
            await self._producer.send_and_wait(self.topic, value, key=b"ses_1")

    @asynccontextmanager
    async def log(self) -> AsyncIterator[EventConsumer]:
        settings = KafkaSettings(kafka_bootstrap=self._bootstrap)
        consumer = kafka.consumer(settings, f"group-{self.topic}")
        await consumer.start()
        try:
            yield consumer
        finally:
            await consumer.stop()


@pytest.fixture(params=["memory", "kafka"])
async def bus(request: pytest.FixtureRequest, kafka_bootstrap: str) -> AsyncIterator[Bus]:
    if request.param == "memory":
        yield MemoryBus()
        return
    name = f"events-{uuid.uuid4().hex[:8]}"
    about = Topic(name, "events of a test", "", "", retention_ms=DAY_MS, partitions=1)
    await create_topics(kafka_bootstrap, [about])
    producer = AIOKafkaProducer(bootstrap_servers=kafka_bootstrap, acks="all")
    await producer.start()
    yield KafkaBus(kafka_bootstrap, name, producer)
    await producer.stop()


def subscribe(bus: Bus, log: EventConsumer) -> TopicPartition:
    log.subscribe([bus.topic], listener=Listener())
    return TopicPartition(bus.topic, 0)


async def read(log: EventConsumer, count: int, most: int | None = None) -> list[Record]:
    found: list[Record] = []
    async with asyncio.timeout(20):
        while len(found) < count:
            batches = await log.getmany(timeout_ms=100, max_records=most)
            assert most is None or sum(map(len, batches.values())) <= most
            found += [record for records in batches.values() for record in records]
    return found


def values(records: Sequence[Record]) -> list[bytes | None]:
    return [record.value for record in records]


async def test_records_come_in_order_with_their_offsets(bus: Bus) -> None:
    await bus.put(*(b"%d" % n for n in range(10)))
    async with bus.log() as log:
        partition = subscribe(bus, log)
        records = await read(log, 10, most=3)
        assert set(log.assignment()) == {partition}
        assert log.highwater(partition) == 10
    assert values(records) == [b"%d" % n for n in range(10)]
    assert [record.offset for record in records] == list(range(10))
    assert {(record.topic, record.partition, record.key) for record in records} == {
        (bus.topic, 0, b"ses_1")
    }
    assert all(record.timestamp > 1_600_000_000_000 for record in records)


async def test_an_empty_log_gives_no_records(bus: Bus) -> None:
    async with bus.log() as log:
        subscribe(bus, log)
        assert not await log.getmany(timeout_ms=10)
        assert bus.topic in await log.topics()


async def test_a_paused_partition_gives_nothing_until_it_goes_on(bus: Bus) -> None:
    await bus.put(b"before")
    async with bus.log() as log:
        subscribe(bus, log)
        await read(log, 1)
        log.pause(*log.assignment())
        await bus.put(b"meanwhile")
        for _ in range(3):
            assert not await log.getmany(timeout_ms=50)
        log.resume(*log.assignment())
        assert values(await read(log, 1)) == [b"meanwhile"]


async def test_the_next_member_starts_where_was_committed(bus: Bus) -> None:
    await bus.put(b"0", b"1", b"2", b"3")
    async with bus.log() as log:
        partition = subscribe(bus, log)
        await read(log, 4)
        await log.commit({partition: 2})
    async with bus.log() as log:
        subscribe(bus, log)
        assert values(await read(log, 2)) == [b"2", b"3"]


async def test_the_logs_records_are_few_objects_and_parts_are_what_the_joiner_puts_together(
    kafka_bootstrap: str,
) -> None:
    """aiokafka has no public way to have them so: this is what notices when an inner name of it moves."""
    name = f"events-{uuid.uuid4().hex[:8]}"
    about = Topic(name, "events of a test", "", "", retention_ms=DAY_MS, partitions=1)
    await create_topics(kafka_bootstrap, [about])
    plain = [("ce_source", b"/other"), ("none", None), ("empty", b"")]
    part = [("ce_source", b"/other"), ("part", b"1/1"), ("part_seq", b"7")]
    async with connected(lambda: AIOKafkaProducer(bootstrap_servers=kafka_bootstrap)) as producer:
        for headers in (plain, part):
            await producer.send_and_wait(name, b'{"seq":7}', key=b"ses_1", headers=headers)
        bus = KafkaBus(kafka_bootstrap, name, producer)
        async with bus.log() as log:
            subscribe(bus, log)
            kept, whole = await read(log, 2)
    assert isinstance(kept, KeptRecord)
    assert kept.headers == plain
    assert isinstance(whole, ConsumerRecord)
    joined = Joiner().join(whole)
    assert joined is not None
    assert (joined.value, joined.headers) == (b'{"seq":7}', [("ce_source", b"/other")])
