"""A reader of whole topics, with plain aiokafka and without a consumer group."""

from __future__ import annotations

import asyncio
from typing import Any

from aiokafka import AIOKafkaConsumer

READ_S = 60.0


async def read_topic(bootstrap: str, topic: str, timeout: float = READ_S) -> list[Any]:
    """Every committed record up to now (aiokafka's ConsumerRecord), each partition's in order.

    Raises TimeoutError, and what aiokafka raises.
    """
    consumer = AIOKafkaConsumer(
        topic,
        bootstrap_servers=bootstrap,
        auto_offset_reset="earliest",
        enable_auto_commit=False,
        isolation_level="read_committed",
    )
    found: list[Any] = []
    async with asyncio.timeout(timeout), consumer:
        ends = await consumer.end_offsets(list(consumer.assignment()))
        left = {partition for partition, end in ends.items() if end}
        while left:
            for records in (await consumer.getmany(timeout_ms=200)).values():
                found += records
            left = {one for one in left if await consumer.position(one) < ends[one]}
    return found
