"""Reading topics: the projector's group (`KafkaFeed`) and the live tail of this process (`KafkaTail`)."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Mapping, Sequence
from typing import Any

from aiokafka.coordinator.assignors.range import RangePartitionAssignor
from aiokafka.errors import CommitFailedError, KafkaError

from services.gateway.adapters.kafka_clients import CLIENT_ID, Consumer
from services.gateway.ports import Record
from shared import logs
from shared.bus.parts import Joiner
from shared.bus.topics import EVENTS, INPUTS, MAX_MESSAGE_BYTES, PREVIEWS, received_at
from shared.clock import utcnow
from shared.errors import Transient
from shared.kafka import measure
from shared.settings import KafkaSettings

GROUP = "turnstile.gateway.projector"
BATCH_RECORDS = 500
_log = logs.get("gateway.kafka")


def record(found: Any) -> Record:
    """An aiokafka record as the ports know it; a tombstone has an empty value."""
    came = ""
    if found.topic == INPUTS.name:
        came = received_at(found.timestamp, found.timestamp_type, utcnow())
    return Record(
        topic=found.topic,
        partition=found.partition,
        offset=found.offset,
        key=found.key,
        value=found.value or b"",
        headers=list(found.headers),
        received_at=came,
    )


def joined(joiner: Joiner, found: Mapping[Any, Sequence[Any]]) -> list[Record]:
    """A poll's records, those in parts at the place of their last one."""
    read = (joiner.join(record(one)) for records in found.values() for one in records)
    return [one for one in read if one is not None]


class KafkaFeed:
    """Inputs and events for the projector.

    Range assignment gives a session's partition of both topics to one member, so a session's row has
    one writer.
    """

    def __init__(self, settings: KafkaSettings) -> None:
        self._options = settings.member(CLIENT_ID, GROUP)
        self._consumer: Any = None
        self._joiner = Joiner()
        self._moved: set[Any] = set()
        self._committed: dict[Any, int] = {}
        # Whether records were handed out since the last commit.
        self._given = False

    async def batch(self, timeout: float) -> Sequence[Record]:
        """See Feed.batch: BATCH_RECORDS at most. Raises Transient (`kafka_unavailable`)."""
        consumer = await self._started()
        try:
            found = await consumer.getmany(
                timeout_ms=int(timeout * 1000), max_records=BATCH_RECORDS
            )
        except KafkaError as error:
            raise Transient("kafka_unavailable", f"{type(error).__name__}") from error
        self._moved |= found.keys()
        self._joiner.keep({(place.topic, place.partition) for place in consumer.assignment()})
        if found:
            self._given = True
        elif not self._given:  # what was passed since the last commit is no record
            self._moved |= consumer.assignment()
            await self.commit()
        return joined(self._joiner, found)

    async def commit(self) -> None:
        """See Feed.commit; events of which not all parts came are not counted as dealt with. Raises Transient."""
        self._given = False
        if self._consumer is None:
            return
        try:
            async with asyncio.timeout(10):
                if reach := await self._reach():
                    await self._consumer.commit(reach)
                self._committed |= reach
                measure(self._consumer, GROUP, self._committed)
        except CommitFailedError:
            _log.info("a rebalance came before the commit; the new owner applies the batch again")
        except (KafkaError, TimeoutError) as error:
            raise Transient("kafka_unavailable", f"commit: {type(error).__name__}") from error

    async def _reach(self) -> dict[Any, int]:
        """How far the partitions that moved since the last commit were read, without the parts of events that are
        not whole; those alone that reach further than was committed."""
        moved, self._moved = self._moved & self._consumer.assignment(), set()
        firsts = {place: self._joiner.first((place.topic, place.partition)) for place in moved}
        reach = {
            place: await self._consumer.position(place) if first is None else first
            for place, first in firsts.items()
        }
        held = self._consumer.assignment()
        self._committed = {p: offset for p, offset in self._committed.items() if p in held}
        return dict(reach.items() - self._committed.items())

    async def rewind(self) -> None:
        """See Feed.rewind. Where the log does not say what was committed, the group is left and joined again."""
        self._joiner.keep(())
        self._moved.clear()
        self._given = False
        if self._consumer is None:
            return
        try:
            async with asyncio.timeout(10):
                await self._consumer.seek_to_committed()
        except (KafkaError, TimeoutError):
            await self.stop()

    async def stop(self) -> None:
        """Leave the group without committing anything."""
        consumer, self._consumer = self._consumer, None
        self._joiner.keep(())
        self._moved.clear()
        self._committed.clear()
        self._given = False
        if consumer is not None:
            with contextlib.suppress(KafkaError):
                await consumer.stop()

    async def _started(self) -> Any:
        if self._consumer is None:
            consumer = Consumer(
                INPUTS.name,
                EVENTS.name,
                **self._options,
                partition_assignment_strategy=[RangePartitionAssignor],
                max_partition_fetch_bytes=MAX_MESSAGE_BYTES,
            )
            await _start(consumer)
            self._consumer = consumer
        return self._consumer


class KafkaTail:
    """Everything published on events and previews from now on, without a group."""

    def __init__(self, settings: KafkaSettings) -> None:
        self._options = settings.reader(CLIENT_ID)

    async def records(self) -> AsyncIterator[Sequence[Record]]:
        """Batches for ever. Raises Transient when the log can't be reached at the start."""
        consumer = Consumer(
            EVENTS.name,
            PREVIEWS.name,
            **self._options,
            group_id=None,
            auto_offset_reset="latest",
            max_partition_fetch_bytes=MAX_MESSAGE_BYTES,
        )
        await _start(consumer)
        try:
            await consumer.seek_to_end()
            joiner = Joiner()
            yield []  # from here on nothing is missed
            while True:
                found = await consumer.getmany(timeout_ms=1000)
                yield joined(joiner, found)
        except KafkaError as error:
            raise Transient("kafka_unavailable", f"tail: {type(error).__name__}") from error
        finally:
            with contextlib.suppress(KafkaError):
                await consumer.stop()


async def _start(consumer: Any) -> None:
    try:
        async with asyncio.timeout(15):
            await consumer.start()
    except BaseException as error:
        with contextlib.suppress(Exception):
            await consumer.stop()
        if isinstance(error, KafkaError | OSError | TimeoutError):
            raise Transient("kafka_unavailable", f"start: {type(error).__name__}") from error
        raise
