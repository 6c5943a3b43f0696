"""Kafka clients that have started, and how far readers have come.

Offsets count more than records: the end of a transaction has one, and so has a record that was aborted. A reader
passes over them, so a position tells what was read, and the number of the last record does not.
"""

from __future__ import annotations

import asyncio
from collections import defaultdict
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from typing import Any, Protocol, TypeVar

from aiokafka import TopicPartition
from aiokafka.errors import KafkaError, UnknownError

from shared import logs, metrics
from shared.retry import patiently

START_TIMEOUT_S = 30.0
STOP_TIMEOUT_S = 10.0
RETRY_S = 1.0
# How long one look for records may wait, in milliseconds: behind the last one there may be only markers to pass.
LOOK_MS = 200
log = logs.get(__name__)


class Client(Protocol):
    """What consumers and producers have in common."""

    async def start(self) -> None: ...
    async def stop(self) -> None: ...


C = TypeVar("C", bound=Client)


async def started(make: Callable[[], C]) -> C:
    """A client that has started. Tries for as long as Kafka is away, saying so; cancel it to give up."""

    async def start() -> C:
        """One try, of START_TIMEOUT_S at most. Raises what `away` names, with the client stopped."""
        client = make()
        try:
            async with asyncio.timeout(START_TIMEOUT_S):
                await client.start()
        except BaseException:
            await stopped(client)
            raise
        return client

    def say(failures: int, error: Exception) -> None:
        log.warning("kafka_away", failures=failures, error=type(error).__name__)

    away = (KafkaError, OSError, TimeoutError)
    return await patiently(start, on=away, first=RETRY_S, longest=RETRY_S, say=say)


def is_passing(error: KafkaError) -> bool:
    """Whether the broker takes the same request a moment later. Its own word for a failure inside, after it stood
    still for instance, comes as it is, or from joining a group as the words of another error."""
    inside = isinstance(error, UnknownError) or repr(UnknownError()) in error.args
    return inside or bool(error.retriable)


async def stopped(client: Client) -> None:
    """Stop a client, within STOP_TIMEOUT_S, whatever state it is in."""
    try:
        async with asyncio.timeout(STOP_TIMEOUT_S):
            await client.stop()
    except (KafkaError, OSError, TimeoutError) as error:
        log.warning("kafka_client_not_stopped", error=type(error).__name__)


@asynccontextmanager
async def connected(make: Callable[[], C]) -> AsyncIterator[C]:
    """A started client, stopped at the end."""
    client = await started(make)
    try:
        yield client
    finally:
        await stopped(client)


async def up_to(
    consumer: Any, ends: Mapping[TopicPartition, int], *, stalled: float
) -> AsyncIterator[Any]:
    """Records of an assigned consumer from its positions up to `ends` (the offsets after the last ones), each
    partition's in order. Raises TimeoutError when no partition gets on for `stalled` seconds, and KafkaError."""
    clock = asyncio.get_running_loop().time
    moved, reached = clock(), dict[TopicPartition, int]()
    while True:
        found = {place: await consumer.position(place) for place in ends}
        left = [place for place, position in found.items() if position < ends[place]]
        if not left:
            return
        if found != reached:
            moved, reached = clock(), found
        elif clock() - moved > stalled:
            raise TimeoutError(f"no record came for {stalled:g} s")
        batches = await consumer.getmany(*left, timeout_ms=LOOK_MS, max_records=500)
        for place, records in batches.items():
            for record in records:
                if record.offset < ends[place]:
                    yield record


def measure(consumer: Any, group: str, committed: Mapping[TopicPartition, int]) -> None:
    """Say how far a group member is behind, by topic: how much it could read and has not committed, and how much
    nobody can read yet, because a transaction before it is open. By what the last answers of the broker said."""
    lag, held = defaultdict[str, int](int), defaultdict[str, int](int)
    for place in consumer.assignment():
        end, stable = consumer.highwater(place), consumer.last_stable_offset(place)
        if end is None or place not in committed:
            continue
        readable = end if stable is None or stable < 0 else stable
        lag[place.topic] += max(0, readable - committed[place])
        held[place.topic] += max(0, end - readable)
    for topic in lag:
        metrics.set_gauge("turnstile_consumer_lag_records", lag[topic], group=group, topic=topic)
        metrics.set_gauge("turnstile_consumer_held_records", held[topic], group=group, topic=topic)
