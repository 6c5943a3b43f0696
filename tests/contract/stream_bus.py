"""A topic of a test's own, who writes to it, and members of its group."""

from __future__ import annotations

import asyncio
import uuid
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any

import pytest
from aiokafka import AIOKafkaProducer, TopicPartition
from aiokafka.admin import AIOKafkaAdminClient
from aiokafka.errors import GroupCoordinatorNotAvailableError

from infra.kafka.topics import create_topics
from services.agent_worker.adapters.clients import member_of
from shared import metrics
from shared.bus.topics import DAY_MS, Topic
from shared.kafka import started, stopped
from shared.settings import KafkaSettings
from shared.stream import Member


@dataclass
class Bus:
    """A topic of its own, who writes to it, and members of its group."""

    settings: KafkaSettings
    topic: str
    producer: Any

    @property
    def group(self) -> str:
        return f"group-{self.topic}"

    async def put(self, *values: bytes, headers: Sequence[Any] = (), partition: int = 0) -> None:
        for value in values:
            await self.producer.send_and_wait(
                self.topic, value, key=b"ses_1", headers=list(headers), partition=partition
            )

    def make(self) -> Member:
        return member_of(self.settings, "test", self.topic, self.group)

    @asynccontextmanager
    async def member(self) -> AsyncIterator[Member]:
        member = await started(self.make)
        try:
            yield member
        finally:
            await stopped(member)

    async def committed(self, partition: int = 0) -> int:
        admin: Any = AIOKafkaAdminClient(bootstrap_servers=self.settings.kafka_bootstrap)
        await admin.start()
        try:
            found = await admin.list_consumer_group_offsets(self.group)
        except GroupCoordinatorNotAvailableError:  # of a group that is new
            return -1
        finally:
            await admin.close()
        place = TopicPartition(self.topic, partition)
        return int(found[place].offset) if place in found else -1

    async def has_committed(self, offset: int) -> bool:
        return await self.committed() == offset

    def errors(self) -> float:
        return metrics.read("turnstile_consumer_errors_total", {"group": self.group})


async def new_topic(bootstrap: str, partitions: int = 1) -> str:
    name = f"stream-{uuid.uuid4().hex[:8]}"
    about = Topic(name, "records of a test", "", "", retention_ms=DAY_MS, partitions=partitions)
    await create_topics(bootstrap, [about])
    return name


@pytest.fixture
async def bus(kafka_bootstrap: str, request: pytest.FixtureRequest) -> AsyncIterator[Bus]:
    partitions = getattr(request, "param", 1)
    producer = AIOKafkaProducer(bootstrap_servers=kafka_bootstrap, acks="all")
    await producer.start()
    settings = KafkaSettings(kafka_bootstrap=kafka_bootstrap)
    yield Bus(settings, await new_topic(kafka_bootstrap, partitions), producer)
    await producer.stop()


async def values(member: Member, count: int) -> list[bytes]:
    found: list[bytes] = []
    async with asyncio.timeout(30):
        while len(found) < count:
            found += [record.value or b"" for record in await member.batch(1.0)]
    return found


async def eventually(holds: Callable[[], Awaitable[bool]]) -> None:
    async with asyncio.timeout(20):
        while not await holds():  # noqa: ASYNC110 - polled until the deadline
            await asyncio.sleep(0.05)
