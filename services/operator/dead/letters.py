"""The dead letters on the log, read without a consumer group, so that looking changes nothing."""

from __future__ import annotations

import asyncio
import heapq
from collections.abc import AsyncIterator, Awaitable, Callable, Collection, Mapping
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from typing import Any

from aiokafka import TopicPartition
from aiokafka.errors import OffsetOutOfRangeError
from aiokafka.structs import ConsumerRecord

from services.operator.dead.letter import DeadLetter, dead_letter_of
from services.operator.failures import Impossible
from services.operator.kafka_clients import reading
from shared.bus.topics import DEAD
from shared.kafka import up_to
from shared.session.key import SessionKey

TIMEOUT_S = 30.0
SCAN_TIMEOUT_S = 300.0
# Records of a partition that are read for the marks in it.
MOST = 10_000_000

# aiokafka's consumer has no types; named here once, so that the rest of the file is checked.
Consumer = Any


async def newest(
    bootstrap: str,
    options: Mapping[str, Any],
    *,
    limit: int,
    scan: int,
    wanted: Callable[[DeadLetter], bool],
    settled: bool = False,
) -> list[DeadLetter]:
    """The newest `limit` letters that are `wanted`, oldest of them first, without their values.

    Letters that were redriven or dropped are left out, unless `settled`. Looks at the last `scan` records of each
    partition and holds no more than `limit` letters in memory. Raises TimeoutError after 5 minutes,
    aiokafka's KafkaError, Impossible when the topic is missing.
    """
    async with _consumer(bootstrap, options) as consumer, asyncio.timeout(SCAN_TIMEOUT_S):
        return await _first(consumer, scan, limit, wanted, settled, newest=True)


async def oldest_open(
    bootstrap: str,
    options: Mapping[str, Any],
    *,
    limit: int,
    scan: int,
    wanted: Callable[[DeadLetter], bool],
) -> list[DeadLetter]:
    """The oldest `limit` letters that are `wanted` and not settled yet, oldest first; see `newest`.

    Letters of one session come in the order in which they died: they share a partition, whose order holds.
    """
    async with _consumer(bootstrap, options) as consumer, asyncio.timeout(SCAN_TIMEOUT_S):
        return await _first(consumer, scan, limit, wanted, settled=False, newest=False)


async def _first(
    consumer: Consumer,
    scan: int,
    limit: int,
    wanted: Callable[[DeadLetter], bool],
    settled: bool,
    *,
    newest: bool,
) -> list[DeadLetter]:
    done, erased = await _settled(consumer, scan)
    if settled:
        done = set()
    sign = 1 if newest else -1
    # Producers' clocks differ: in a partition no letter counts as older than the one before it.
    times: dict[int, int] = {}
    found: list[tuple[int, int, int, DeadLetter]] = []
    async for record in _tail(consumer, scan):
        letter = dead_letter_of(record, with_value=False)
        if letter.settles is not None or letter.erases is not None or letter.is_of(erased):
            continue
        at = times[letter.partition] = max(times.get(letter.partition, 0), letter.timestamp)
        if (letter.partition, letter.offset) not in done and wanted(letter):
            entry = (sign * at, sign * letter.partition, sign * letter.offset, letter)
            heapq.heappush(found, entry)
            if len(found) > limit:
                heapq.heappop(found)
    return [letter for *_, letter in sorted(found, reverse=not newest)]


async def _settled(
    consumer: Consumer, scan: int, places: Collection[TopicPartition] = ()
) -> tuple[set[tuple[int, int]], set[SessionKey]]:
    """Places of the letters that were redriven or dropped, their marks come after them in the same partition; and
    the sessions (tenant, id) that were erased: their letters must not be read."""
    done, erased = set[tuple[int, int]](), set[SessionKey]()
    async for record in _tail(consumer, scan, places):
        mark = dead_letter_of(record, with_value=False)
        if mark.settles is not None:
            done.add((mark.partition, mark.settles))
        elif mark.erases is not None:
            erased.add(mark.erases)
    return done, erased


async def one(
    bootstrap: str, options: Mapping[str, Any], partition: int, offset: int
) -> DeadLetter:
    """The letter at that place, with its value. Raises Impossible when there is none (any more), or when its
    session was erased; to know that, its partition is read."""
    async with _consumer(bootstrap, options) as consumer:
        place = TopicPartition(DEAD.name, partition)
        async with asyncio.timeout(TIMEOUT_S):
            letter = dead_letter_of(await _at(consumer, place, offset), with_value=True)
        async with asyncio.timeout(SCAN_TIMEOUT_S):
            _, erased = await _settled(consumer, MOST, [place])
    if letter.is_of(erased) or letter.erases is not None:
        raise Impossible(f"{letter.place} is of a session that was erased: it is not shown")
    return letter


async def of_sessions(
    bootstrap: str, options: Mapping[str, Any], sessions: Collection[SessionKey]
) -> tuple[list[DeadLetter], set[SessionKey]]:
    """All letters of these sessions (tenant, id) that lie there, settled or not, and which of the sessions are
    marked as erased. Reads the whole topic; raises as `newest` does."""
    letters, erased = list[DeadLetter](), set[SessionKey]()
    async with _consumer(bootstrap, options) as consumer, asyncio.timeout(SCAN_TIMEOUT_S):
        async for record in _tail(consumer, MOST):
            letter = dead_letter_of(record, with_value=False)
            if letter.erases is not None:
                erased.add(letter.erases)
            elif letter.settles is None and letter.is_of(sessions):
                letters.append(letter)
    return letters, erased & set(sessions)


Read = Callable[[int, int], Awaitable[ConsumerRecord[Any, Any]]]


@asynccontextmanager
async def records(bootstrap: str, options: Mapping[str, Any]) -> AsyncIterator[Read]:
    """A function that reads the record at a partition and offset, as it lies there, within 30 s."""
    async with _consumer(bootstrap, options) as consumer:

        async def read(partition: int, offset: int) -> ConsumerRecord[Any, Any]:
            async with asyncio.timeout(TIMEOUT_S):
                return await _at(consumer, TopicPartition(DEAD.name, partition), offset)

        yield read


async def _at(consumer: Consumer, place: TopicPartition, offset: int) -> ConsumerRecord[Any, Any]:
    if place not in consumer.assignment():
        raise Impossible(f"{DEAD.name} has no partition {place.partition}")
    first = (await consumer.beginning_offsets([place]))[place]
    end = (await consumer.end_offsets([place]))[place]
    if not first <= offset < end:
        raise Impossible(
            f"partition {place.partition} holds offsets {first} to {end - 1}: no {offset}"
        )
    consumer.seek(place, offset)
    try:
        async for record in up_to(consumer, {place: offset + 1}, stalled=TIMEOUT_S):
            return record  # type: ignore[no-any-return]
    except OffsetOutOfRangeError:
        raise Impossible(f"{place.partition}/{offset} was just deleted by its retention") from None
    raise Impossible(
        f"{place.partition}/{offset} is no record: it ends a transaction, or was aborted"
    )


async def _tail(
    consumer: Consumer, scan: int, of: Collection[TopicPartition] = ()
) -> AsyncIterator[ConsumerRecord[Any, Any]]:
    """The last `scan` records of each partition (of these, if any are named), up to where it ended when this
    began."""
    places = list(of or consumer.assignment())
    first = await consumer.beginning_offsets(places)
    ends = await consumer.end_offsets(places)
    for place in places:
        consumer.seek(place, max(first[place], ends[place] - scan))
    async for record in up_to(consumer, ends, stalled=TIMEOUT_S):
        yield record


def _consumer(bootstrap: str, options: Mapping[str, Any]) -> AbstractAsyncContextManager[Consumer]:
    return reading(DEAD.name, bootstrap, options, auto_offset_reset="none")
