"""The operator's Kafka clients: a reader is in no group and leaves no trace, a producer waits for all replicas."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from typing import Any

from aiokafka import AIOKafkaConsumer, AIOKafkaProducer
from aiokafka.errors import UnknownTopicOrPartitionError

from services.operator.failures import Impossible
from shared.bus.topics import MAX_MESSAGE_BYTES, READ_COMMITTED

START_TIMEOUT_S = 30.0
REQUEST_TIMEOUT_MS = 30_000
# aiokafka's clients have no types; named here once, so that the rest is checked.
_Consumer: Any = AIOKafkaConsumer
_Producer: Any = AIOKafkaProducer


@asynccontextmanager
async def reading(
    topic: str, bootstrap: str, options: Mapping[str, Any], **more: Any
) -> AsyncIterator[Any]:
    """A consumer of all partitions of `topic`, of committed records only. `options` say how to reach Kafka, `more`
    how to read. Raises Impossible when the topic is missing, then and later, KafkaError, and TimeoutError when it
    has not started after START_TIMEOUT_S."""
    consumer = _Consumer(
        topic,
        bootstrap_servers=bootstrap,
        group_id=None,
        enable_auto_commit=False,
        isolation_level=READ_COMMITTED,
        **more,
        **options,
    )
    try:
        async with asyncio.timeout(START_TIMEOUT_S):
            await consumer.start()
        yield consumer
    except UnknownTopicOrPartitionError:
        raise Impossible(f"{topic} does not exist: run `turnstile migrate`") from None
    finally:
        await consumer.stop()


@asynccontextmanager
async def producing(bootstrap: str, options: Mapping[str, Any]) -> AsyncIterator[Any]:
    """A producer whose sends have all replicas' word, and land once. Raises KafkaError."""
    producer = _Producer(
        bootstrap_servers=bootstrap,
        acks="all",
        enable_idempotence=True,
        max_request_size=MAX_MESSAGE_BYTES,
        request_timeout_ms=REQUEST_TIMEOUT_MS,
        **options,
    )
    try:
        await producer.start()
        yield producer
    finally:
        await producer.stop()
