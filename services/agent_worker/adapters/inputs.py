"""The inputs topic through aiokafka: one group over all workers, offsets committed by hand."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from datetime import datetime
from typing import Any

from aiokafka import AIOKafkaConsumer, TopicPartition
from aiokafka.errors import CommitFailedError, IllegalStateError, KafkaError

from services.agent_worker.inbox.validate import Bad, Record
from shared import logs
from shared.bus import topics
from shared.bus.envelope import dead_letter
from shared.bus.topics import received_at
from shared.clock import Clock, utcnow
from shared.dead_letters import DeadLetters, Letter
from shared.kafka import measure, started, stopped
from shared.moment import rfc3339

GROUP = "turnstile.intake"
MAX_RECORDS = 500
log = logs.get(__name__)


class KafkaInputs:
    """The Inputs port. `make` gives consumers, not started, that commit nothing by themselves; there is one at a
    time, from `join` to `leave`."""

    def __init__(self, make: Callable[[], AIOKafkaConsumer], clock: Clock = utcnow) -> None:
        self._make = make
        self._consumer: AIOKafkaConsumer | None = None
        self._clock = clock
        self._moved: set[TopicPartition] = set()
        self._committed: dict[TopicPartition, int] = {}
        # Whether records were given since the last commit.
        self._given = False

    async def join(self) -> AIOKafkaConsumer:
        """Become a member of the group, however long the log is away; the consumer that is it."""
        if self._consumer is None:
            self._consumer = await started(self._make)
        return self._consumer

    async def batch(self) -> Sequence[Record]:
        """See Inputs.batch."""
        consumer = await self.join()
        while True:
            found = await consumer.getmany(timeout_ms=1_000, max_records=MAX_RECORDS)
            self._moved |= found.keys()
            now = self._clock()
            records = [_record(one, now) for batch in found.values() for one in batch]
            if records:
                self._given = True
                return records
            if not self._given:  # what was passed since the last commit is no record
                self._moved |= consumer.assignment()
                await self.commit()

    async def commit(self) -> None:
        """See Inputs.commit: the positions of the partitions that moved and are still held. All of them, a dozen a
        commit, would be what a broker that starts again has to read most of."""
        consumer, moved, self._moved = self._consumer, self._moved, set()
        self._given = False
        if consumer is None:
            return
        try:
            async with asyncio.timeout(10.0):
                held = moved & consumer.assignment()
                reached = {place: await consumer.position(place) for place in held}
                new = dict(reached.items() - self._committed.items())
                if new:
                    await consumer.commit(new)
        except (CommitFailedError, IllegalStateError, KafkaError, TimeoutError) as error:
            self._moved |= moved
            log.warning("offsets_not_committed", error=type(error).__name__)
        else:
            self._committed = {
                p: o for p, o in self._committed.items() if p in consumer.assignment()
            }
            self._committed |= new
            measure(consumer, GROUP, self._committed)

    async def leave(self) -> None:
        """See Inputs.leave. One may leave twice."""
        consumer, self._consumer = self._consumer, None
        self._moved.clear()
        self._committed.clear()
        self._given = False
        if consumer is not None:
            await stopped(consumer)


def _record(found: Any, now: datetime) -> Record:
    return Record(
        key=found.key,
        value=found.value,
        headers=found.headers,
        source=f"{found.topic}/{found.partition}/{found.offset}",
        received_at=received_at(found.timestamp, found.timestamp_type, now),
    )


def burial(letters: DeadLetters, clock: Clock) -> Callable[[Sequence[Bad]], Awaitable[None]]:
    """A function that puts records as they came into the dead letters, waiting for as long as the log is away."""

    async def put(bad: Sequence[Bad]) -> None:
        at = rfc3339(clock())
        await letters.put(
            [
                Letter(
                    key=record.key,
                    value=record.value,
                    headers=dead_letter(
                        record.headers,
                        reason=error.reason,
                        detail=str(error),
                        attempts=1,
                        at=at,
                        source=record.source,
                    ),
                    reason=error.reason,
                    topic=topics.INPUTS.name,
                    place=record.source,
                )
                for record, error in bad
            ]
        )

    return put
