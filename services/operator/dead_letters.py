"""What lies in `turnstile.dead.v1`? Read without a consumer group, so that looking changes nothing."""

from __future__ import annotations

import asyncio
import heapq
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from typing import Any

from aiokafka import AIOKafkaConsumer, TopicPartition
from aiokafka.errors import OffsetOutOfRangeError, UnknownTopicOrPartitionError
from aiokafka.structs import ConsumerRecord

from services.operator.dead_letter import DeadLetter, dead_letter_of
from services.operator.failures import Impossible
from shared.bus.topics import DEAD

TIMEOUT_S = 30.0

# aiokafka's consumer has no types; named here once, so that the rest of the file is checked.
Consumer = Any
_open: Consumer = AIOKafkaConsumer


async def newest(
    bootstrap: str,
    options: Mapping[str, Any],
    *,
    limit: int,
    scan: int,
    wanted: Callable[[DeadLetter], bool],
) -> list[DeadLetter]:
    """The newest `limit` letters that are `wanted`, oldest of them first, without their values.

    Looks at the last `scan` records of each partition and holds no more than `limit` in memory. Raises
    TimeoutError after 30 s, aiokafka's KafkaError, Impossible when the topic is missing.
    """
    found: list[tuple[int, int, int, DeadLetter]] = []
    async with _consumer(bootstrap, options) as consumer, asyncio.timeout(TIMEOUT_S):
        async for record in _tail(consumer, scan):
            letter = dead_letter_of(record, with_value=False)
            if wanted(letter):
                heapq.heappush(found, (letter.timestamp, letter.partition, letter.offset, letter))
                if len(found) > limit:
                    heapq.heappop(found)
    return [letter for *_, letter in sorted(found)]


async def one(
    bootstrap: str, options: Mapping[str, Any], partition: int, offset: int
) -> DeadLetter:
    """The letter at that place, with its value. Raises Impossible when there is none (any more)."""
    place = TopicPartition(DEAD.name, partition)
    async with _consumer(bootstrap, options) as consumer, asyncio.timeout(TIMEOUT_S):
        if place not in consumer.assignment():
            raise Impossible(f"{DEAD.name} has no partition {partition}")
        first = (await consumer.beginning_offsets([place]))[place]
        end = (await consumer.end_offsets([place]))[place]
        if not first <= offset < end:
            raise Impossible(
                f"partition {partition} holds offsets {first} to {end - 1}: no {offset}"
            )
        consumer.seek(place, offset)
        try:
            return dead_letter_of(await consumer.getone(place), with_value=True)
        except OffsetOutOfRangeError:
            raise Impossible(f"{partition}/{offset} was just deleted by its retention") from None


async def _tail(consumer: Consumer, scan: int) -> AsyncIterator[ConsumerRecord[Any, Any]]:
    """The last `scan` records of each partition, up to where it ended when this began."""
    places = list(consumer.assignment())
    first = await consumer.beginning_offsets(places)
    ends = await consumer.end_offsets(places)
    for place in places:
        consumer.seek(place, max(first[place], ends[place] - scan))
    left = {place for place in places if first[place] < ends[place]}
    while left:
        batches = await consumer.getmany(*left, timeout_ms=500, max_records=500)
        for place, records in batches.items():
            for record in records:
                if record.offset < ends[place]:
                    yield record
        left = {place for place in left if await consumer.position(place) < ends[place]}


@asynccontextmanager
async def _consumer(bootstrap: str, options: Mapping[str, Any]) -> AsyncIterator[Consumer]:
    consumer = _open(
        DEAD.name,
        bootstrap_servers=bootstrap,
        group_id=None,
        enable_auto_commit=False,
        auto_offset_reset="none",
        **options,
    )
    try:
        async with asyncio.timeout(TIMEOUT_S):
            await consumer.start()
        yield consumer
    except UnknownTopicOrPartitionError:
        raise Impossible(f"{DEAD.name} does not exist: run `turnstile migrate`") from None
    finally:
        await consumer.stop()
