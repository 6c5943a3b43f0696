"""One suite for what intake reads from: in memory and on Kafka, as members of a group."""

from __future__ import annotations

import asyncio
import uuid
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any, Protocol

import pytest
from aiokafka import AIOKafkaProducer

from infra.kafka.topics import create_topics
from services.agent_worker.adapters.clients import member_of
from services.agent_worker.adapters.inputs import KafkaInputConsumer
from services.agent_worker.ports import InputConsumer, InputRecord
from shared.bus.topics import DAY_MS, Topic
from shared.settings import KafkaSettings
from shared.stream import Member
from tests.fakes.inputs import MemoryInputTopic

pytestmark = pytest.mark.contract
HEADERS = [("ce_type", b"turn.requested"), ("ce_id", "é".encode())]


class Bus(Protocol):
    """A topic of one partition, and members of its group, one after the other."""

    async def put(self, key: bytes | None, value: bytes | None) -> None: ...
    def member(self) -> Any: ...


class MemoryBus:
    def __init__(self) -> None:
        self._inputs = MemoryInputTopic()

    async def put(self, key: bytes | None, value: bytes | None) -> None:
        self._inputs.put(key, value, HEADERS)

    @asynccontextmanager
    async def member(self) -> AsyncIterator[InputConsumer]:
        yield self._inputs.member()


class KafkaBus:
    def __init__(self, bootstrap: str, topic: str, producer: AIOKafkaProducer) -> None:
        self._bootstrap = bootstrap
        self._topic = topic
        self._producer = producer

    async def put(self, key: bytes | None, value: bytes | None) -> None:
        await self._producer.send_and_wait(self._topic, value, key=key, headers=HEADERS)

    @asynccontextmanager
    async def member(self) -> AsyncIterator[InputConsumer]:
        inputs = KafkaInputConsumer(self._member)
        try:
            yield inputs
        finally:
            await inputs.leave()

    def _member(self) -> Member:
        settings = KafkaSettings(kafka_bootstrap=self._bootstrap)
        return member_of(settings, "test", self._topic, f"group-{self._topic}")


@pytest.fixture(params=["memory", "kafka"])
async def bus(request: pytest.FixtureRequest, kafka_bootstrap: str) -> AsyncIterator[Bus]:
    if request.param == "memory":
        yield MemoryBus()
        return
    name = f"inputs-{uuid.uuid4().hex[:8]}"
    about = Topic(name, "inputs of a test", "", "", retention_ms=DAY_MS, partitions=1)
    await create_topics(kafka_bootstrap, [about])
    producer = AIOKafkaProducer(bootstrap_servers=kafka_bootstrap, acks="all")
    await producer.start()
    yield KafkaBus(kafka_bootstrap, name, producer)
    await producer.stop()


async def read(inputs: InputConsumer, count: int) -> list[InputRecord]:
    found: list[InputRecord] = []
    async with asyncio.timeout(20):
        while len(found) < count:
            batch = await inputs.batch()
            assert batch, "a batch waits for at least one record"
            found += batch
    return found


async def test_records_come_whole_and_in_order(bus: Bus) -> None:
    await bus.put(b"ses_1", b'{"n":1}')
    await bus.put(None, b"")
    await bus.put(b"\xff\x00", None)
    async with bus.member() as member:
        records = await read(member, 3)
    assert [(record.key, record.value) for record in records] == [
        (b"ses_1", b'{"n":1}'),
        (None, b""),
        (b"\xff\x00", None),
    ]
    assert [list(record.headers) for record in records] == [HEADERS] * 3
    topics, partitions, offsets = zip(*(r.source.rsplit("/", 2) for r in records), strict=True)
    assert (len(set(topics)), set(partitions), offsets) == (1, {"0"}, ("0", "1", "2"))


async def test_a_batch_waits_for_the_first_record(bus: Bus) -> None:
    async with bus.member() as member:
        waiting = asyncio.create_task(read(member, 1))
        await bus.put(b"ses_1", b"late")
        (record,) = await waiting
    assert record.value == b"late"


async def test_what_was_committed_never_comes_again(bus: Bus) -> None:
    async with bus.member() as member:
        await bus.put(b"ses_1", b"first")
        await read(member, 1)
        await member.commit()
        await bus.put(b"ses_1", b"second")
        await read(member, 1)
        await member.commit()
    await bus.put(b"ses_1", b"third")
    async with bus.member() as member:
        (record,) = await read(member, 1)
    assert record.value == b"third"


async def test_what_was_not_committed_comes_again_to_the_next_member(bus: Bus) -> None:
    for value in (b"first", b"second"):
        await bus.put(b"ses_1", value)
    async with bus.member() as member:
        await read(member, 2)
    async with bus.member() as member:
        records = await read(member, 2)
    assert [record.value for record in records] == [b"first", b"second"]


async def test_a_commit_of_nothing_is_harmless(bus: Bus) -> None:
    async with bus.member() as member:
        await member.commit()
        await bus.put(b"ses_1", b"first")
        assert len(await read(member, 1)) == 1


async def test_a_member_that_left_joins_again_where_was_committed(bus: Bus) -> None:
    for value in (b"first", b"second"):
        await bus.put(b"ses_1", value)
    async with bus.member() as member:
        await read(member, 2)
        await member.leave()
        await member.leave()
        records = await read(member, 2)
        await member.commit()
        await member.leave()
        await bus.put(b"ses_1", b"third")
        records += await read(member, 1)
    assert [record.value for record in records] == [b"first", b"second", b"third"]


async def test_a_member_that_leaves_leaves_the_rest_to_the_others(bus: Bus) -> None:
    for value in (b"first", b"second"):
        await bus.put(b"ses_1", value)
    async with bus.member() as braked:
        await read(braked, 2)
        await braked.leave()
        async with bus.member() as member:
            records = await read(member, 2)
    assert [record.value for record in records] == [b"first", b"second"]
