"""Puts records on the log and reads them: plain aiokafka, no groups."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Iterable
from typing import Any

from aiokafka import AIOKafkaConsumer, AIOKafkaProducer

from shared.bus.envelope import Headers

Record = tuple[bytes, bytes, Headers]
"""Key, value, headers."""

_AT_ONCE = 5_000


@contextlib.asynccontextmanager
async def producing(bootstrap: str, compression_type: str | None = None) -> AsyncIterator[Any]:
    """A producer with acks=all."""
    producer = AIOKafkaProducer(
        bootstrap_servers=bootstrap,
        acks="all",
        enable_idempotence=True,
        max_batch_size=262_144,
        compression_type=compression_type,
    )
    await producer.start()
    try:
        yield producer
    finally:
        await producer.stop()


async def publish(producer: Any, topic: str, records: Iterable[Record]) -> int:
    """Put all records on the log; returns how many once all are acknowledged."""
    waiting: list[Any] = []
    count = 0
    for key, value, headers in records:
        waiting.append(await producer.send(topic, value, key=key, headers=headers))
        count += 1
        if len(waiting) == _AT_ONCE:
            await asyncio.gather(*waiting)
            waiting.clear()
    await asyncio.gather(*waiting)
    return count


@contextlib.asynccontextmanager
async def reading(bootstrap: str, topic: str) -> AsyncIterator[Any]:
    """A consumer of all partitions of a topic, from its end at this moment."""
    consumer: Any = AIOKafkaConsumer(
        topic,
        bootstrap_servers=bootstrap,
        enable_auto_commit=False,
        fetch_max_wait_ms=500,
        isolation_level="read_committed",
    )
    await consumer.start()
    try:
        partitions = list(consumer.assignment())  # without a group: all, at once
        assert partitions, f"{topic}: no partitions"
        await consumer.seek_to_end(*partitions)
        for partition in partitions:
            await consumer.position(partition)
        yield consumer
    finally:
        await consumer.stop()


async def rest_of(consumer: Any) -> list[Any]:
    """All records between the consumer's positions and the log's end now."""
    partitions = list(consumer.assignment())
    ends = await consumer.end_offsets(partitions)
    found: list[Any] = []
    for partition in partitions:
        while await consumer.position(partition) < ends[partition]:
            batch = await consumer.getmany(partition, timeout_ms=1_000)
            found += [record for records in batch.values() for record in records]
    return found
