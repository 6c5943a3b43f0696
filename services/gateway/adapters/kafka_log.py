"""The event log read back: one session's events out of its partition, from a moment on."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncGenerator, AsyncIterator
from datetime import datetime
from typing import Any

import msgspec
from aiokafka import TopicPartition
from aiokafka.errors import KafkaError
from aiokafka.partitioner import DefaultPartitioner

from services.gateway.adapters.kafka_clients import CLIENT_ID, Consumer
from services.gateway.ports import Entry
from services.gateway.streams.live import read_heading
from shared.bus.parts import Joiner
from shared.bus.topics import EVENTS, MAX_MESSAGE_BYTES
from shared.errors import Transient
from shared.kafka import up_to
from shared.session.key import SessionKey
from shared.settings import KafkaSettings

# A scan is rare (an archive that is behind and a ring that is too short); several at once would
# take the network from the live tail.
MAX_SCANS = 4
POLL_SECONDS = 5.0


class KafkaEventLog:
    """Each scan has a consumer of its own, without a group, closed when the scan ends."""

    def __init__(self, settings: KafkaSettings) -> None:
        self._options = settings.reader(CLIENT_ID)
        self._turns = asyncio.Semaphore(MAX_SCANS)

    async def scan(
        self, key: SessionKey, since: datetime, after: int
    ) -> AsyncGenerator[Entry, None]:
        """See EventLog.scan. Waits while MAX_SCANS others run; raises Transient (`kafka_unavailable`)."""
        async with self._turns, self._consumer() as consumer:
            try:
                async with asyncio.timeout(POLL_SECONDS):
                    partition, end = await _place(consumer, key[1].encode(), since)
                async for entry in _entries(consumer, partition, end, key, after):
                    yield entry
            except (KafkaError, TimeoutError) as error:
                raise Transient(
                    "kafka_unavailable", f"the log could not be read back: {type(error).__name__}"
                ) from error

    @contextlib.asynccontextmanager
    async def _consumer(self) -> AsyncIterator[Any]:
        consumer = Consumer(
            **self._options,
            group_id=None,
            max_partition_fetch_bytes=MAX_MESSAGE_BYTES,
        )
        try:
            async with asyncio.timeout(POLL_SECONDS):
                await consumer.start()
        except (KafkaError, OSError, TimeoutError) as error:
            await _stop(consumer)
            raise Transient("kafka_unavailable", "the log does not answer") from error
        try:
            yield consumer
        finally:
            await _stop(consumer)


async def _stop(consumer: Any) -> None:
    with contextlib.suppress(Exception):
        await consumer.stop()


async def _place(consumer: Any, key: bytes, since: datetime) -> tuple[TopicPartition, int]:
    """Stand at the first record published at or after `since`; the partition and its end offset."""
    # Assigning any partition of the topic makes the client fetch what there is of it.
    any_partition = TopicPartition(EVENTS.name, 0)
    consumer.assign([any_partition])
    await consumer.end_offsets([any_partition])
    numbers = sorted(consumer.partitions_for_topic(EVENTS.name) or ())
    if not numbers:
        raise Transient("kafka_unavailable", f"topic {EVENTS.name} does not exist yet")
    partition = TopicPartition(EVENTS.name, DefaultPartitioner()(key, numbers, numbers))
    consumer.assign([partition])
    end = (await consumer.end_offsets([partition]))[partition]
    milliseconds = max(0, int(since.timestamp() * 1000))
    found = (await consumer.offsets_for_times({partition: milliseconds}))[partition]
    consumer.seek(partition, found.offset if found else end)
    return partition, end


async def _entries(
    consumer: Any, partition: TopicPartition, end: int, key: SessionKey, after: int
) -> AsyncIterator[Entry]:
    record_key, joiner = key[1].encode(), Joiner()
    async for record in up_to(consumer, {partition: end}, stalled=POLL_SECONDS):
        found = joiner.join(record) if record.key == record_key else None
        if found is None or not found.value:
            continue
        try:
            heading = read_heading(found.value)
        except msgspec.DecodeError:
            continue
        if (heading.tenant_id, heading.session_id) == key and heading.seq > after:
            yield Entry(heading.seq, heading.type, heading.at, found.value)
