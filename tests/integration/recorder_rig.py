"""What the recorder's tests share: a topic and an archive of their own, events, a recorder that runs."""

from __future__ import annotations

import asyncio
import json
import time
import uuid
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any, TypeVar

import clickhouse_connect
from aiokafka import AIOKafkaConsumer, AIOKafkaProducer, TopicPartition
from aiokafka.admin import AIOKafkaAdminClient
from aiokafka.errors import GroupCoordinatorNotAvailableError

from infra.clickhouse.migrate import migrate
from infra.kafka.topics import create_topics
from services.recorder import kafka
from services.recorder.archive import ArchiveSink, ClickHouseWriter
from services.recorder.consume import KafkaDeadLetterSender, Recorder
from services.recorder.eraser import Eraser, Erasing
from services.recorder.ports import ArchiveWriter
from services.recorder.settings import RecorderSettings
from services.recorder.tombstones import Tombstones
from shared import dead_letters as letters
from shared.bus.brake import Brake
from shared.bus.topics import DAY_MS, Topic
from shared.clock import utcnow
from shared.kafka import started, stopped
from shared.settings import KafkaSettings
from tests.clickhouse_server import fresh_database

DEADLINE_S = 30.0
T = TypeVar("T")
Headers = Sequence[tuple[str, bytes]]


@dataclass(frozen=True, slots=True)
class Rig:
    """One test's own topic, group and database."""

    bootstrap: str
    url: str
    topic: str
    partitions: int
    group: str = field(default_factory=lambda: f"test-{uuid.uuid4().hex[:8]}")
    settings: RecorderSettings = field(
        default_factory=lambda: RecorderSettings(recorder_batch_seconds=0.1)
    )

    async def publish(
        self, values: Sequence[bytes | None], headers: Headers = (), key: bytes = b"ses_1"
    ) -> None:
        """Publish values in order, all under one key, and wait for Kafka's acknowledgement."""
        make: Any = AIOKafkaProducer
        producer = make(
            bootstrap_servers=self.bootstrap, acks="all", linger_ms=2, max_request_size=8 << 20
        )
        await producer.start()
        try:
            sent = [
                await producer.send(self.topic, value, key=key, headers=list(headers))
                for value in values
            ]
            await asyncio.gather(*sent)
        finally:
            await producer.stop()

    @asynccontextmanager
    async def recording(
        self, writer: ArchiveWriter | None = None
    ) -> AsyncIterator[asyncio.Task[None]]:
        """A recorder that runs until the block ends, then stops as on SIGTERM."""
        consumer = await started(lambda: kafka.consumer(self._kafka(), self.group))
        producer = await started(lambda: kafka.producer(self._kafka()))
        limits = self.settings
        brake = Brake(
            ratio=limits.recorder_dead_ratio, consecutive=limits.recorder_dead_consecutive
        )
        archive = ArchiveSink(
            writer or ClickHouseWriter(self.url, timeout=10),
            brake,
            chance=lambda: 0.5,
            clock=time.perf_counter,
            most=limits.recorder_batch_rows,
        )
        dead = KafkaDeadLetterSender(letters.DeadLetters(producer, utcnow), utcnow)
        noted = [Tombstones(self.url, timeout=10) for _ in range(2)]
        eraser = Eraser(noted[0], utcnow)
        erasing = Erasing(
            archive, noted[1], producer, clock=utcnow, now=time.monotonic, news=eraser.poke
        )
        recorder = Recorder(consumer, erasing, dead, brake, limits, utcnow, self.topic)
        running = asyncio.create_task(recorder.run())
        rubbing = asyncio.create_task(eraser.run())
        try:
            yield running
        finally:
            recorder.stop()
            rubbing.cancel()
            await asyncio.wait({running, rubbing}, timeout=DEADLINE_S)
            for connection in noted:
                connection.close()
            await stopped(consumer)
            await stopped(producer)

    async def committed(self) -> int:
        """The sum of the group's committed offsets; asked from outside the group."""
        make: Any = AIOKafkaAdminClient
        admin = make(bootstrap_servers=self.bootstrap)
        await admin.start()
        try:
            found = await admin.list_consumer_group_offsets(self.group)
        except GroupCoordinatorNotAvailableError:
            # A broker that has just started has no group yet.
            return 0
        finally:
            await admin.close()
        return sum(max(0, entry.offset) for entry in found.values())

    async def rewind(self) -> None:
        """Commit 0 for every partition, while no recorder runs."""
        make: Any = AIOKafkaConsumer
        consumer = make(
            bootstrap_servers=self.bootstrap,
            group_id=self.group,
            enable_auto_commit=False,
            isolation_level="read_committed",
        )
        await consumer.start()
        try:
            partitions = [TopicPartition(self.topic, number) for number in range(self.partitions)]
            consumer.assign(partitions)
            await consumer.commit(dict.fromkeys(partitions, 0))
        finally:
            await consumer.stop()

    async def query(self, sql: str) -> list[Sequence[Any]]:
        """Rows of a query on this test's database."""

        def run() -> list[Sequence[Any]]:
            client = clickhouse_connect.get_client(dsn=self.url, autogenerate_session_id=False)
            try:
                return list(client.query(sql).result_rows)
            finally:
                client.close()

        return await asyncio.to_thread(run)

    async def count(self, what: str = "events") -> int:
        return int((await self.query(f"SELECT count() FROM {what}"))[0][0])

    def _kafka(self) -> KafkaSettings:
        return KafkaSettings(kafka_bootstrap=self.bootstrap)


async def rig(bootstrap: str, server: str, partitions: int = 3) -> Rig:
    """A new topic, and a new database with every table."""
    topic = f"events-{uuid.uuid4().hex[:8]}"
    url = fresh_database(server)
    about = Topic(topic, "events of a test", "", "", retention_ms=DAY_MS, partitions=partitions)
    await create_topics(bootstrap, [about])
    await asyncio.to_thread(migrate, url, say=lambda _: None)
    return Rig(bootstrap, url, topic, partitions)


def event(seq: int, session: str = "ses_1", **fields: Any) -> bytes:
    """An event's value; `data` may be given as the bytes it has on the wire."""
    data: bytes = fields.pop(
        "data", b'{"id": "sevt_%d",  "text":"caf\\u00e9 \\ud83d\\ude00"}' % seq
    )
    head = {
        "tenant_id": "acme",
        "session_id": session,
        "seq": seq,
        "event_id": f"{session}:{seq}",
        "type": "agent.message",
        "turn_id": "turn_1",
        "at": f"2026-11-21T10:00:{seq % 60:02d}.{seq % 1000000:06d}Z",
        "user_id": "u1",
        "trace_id": "",
        **fields,
    }
    return json.dumps(head).encode()[:-1] + b',"data":' + data + b"}"


def events(first: int, last: int, session: str = "ses_1") -> list[bytes]:
    """Events with seq `first` to `last`, both included."""
    return [event(seq, session) for seq in range(first, last + 1)]


async def until(
    look: Callable[[], Awaitable[T]], wanted: Callable[[T], bool], deadline: float = DEADLINE_S
) -> T:
    """What `look` finds as soon as it is `wanted`; AssertionError with the last finding otherwise."""
    end = time.monotonic() + deadline
    while True:
        found = await look()
        if wanted(found):
            return found
        assert time.monotonic() < end, f"still {found!r} after {deadline:g} s"
        await asyncio.sleep(0.03)
