"""The inputs topic through aiokafka: one group over all workers, offsets committed by hand."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence

from aiokafka import AIOKafkaConsumer, TopicPartition
from aiokafka.errors import CommitFailedError, IllegalStateError, KafkaError

from services.agent_worker.validate import Bad, Record
from shared import logs
from shared.bus import topics
from shared.bus.envelope import dead_letter
from shared.clock import Clock
from shared.dead_letters import DeadLetters, Letter
from shared.kafka import started, stopped
from shared.moment import rfc3339

GROUP = "turnstile.intake"
MAX_RECORDS = 500
log = logs.get(__name__)


class KafkaInputs:
    """The Inputs port. `make` gives consumers, not started, that commit nothing by themselves; there is one at a
    time, from `join` to `leave`."""

    def __init__(self, make: Callable[[], AIOKafkaConsumer]) -> None:
        self._make = make
        self._consumer: AIOKafkaConsumer | None = None
        self._moved: set[TopicPartition] = set()

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
            records = [
                Record(r.key, r.value, r.headers, f"{r.topic}/{r.partition}/{r.offset}")
                for batch in found.values()
                for r in batch
            ]
            if records:
                return records

    async def commit(self) -> None:
        """See Inputs.commit: the positions of the partitions that moved and are still held. All of them, a dozen a
        commit, would be what a broker that starts again has to read most of."""
        consumer, moved, self._moved = self._consumer, self._moved, set()
        if consumer is None:
            return
        try:
            async with asyncio.timeout(10.0):
                if held := moved & consumer.assignment():
                    await consumer.commit({p: await consumer.position(p) for p in held})
        except (CommitFailedError, IllegalStateError, KafkaError, TimeoutError) as error:
            self._moved |= moved
            log.warning("offsets_not_committed", error=type(error).__name__)

    async def leave(self) -> None:
        """See Inputs.leave. One may leave twice."""
        consumer, self._consumer = self._consumer, None
        self._moved.clear()
        if consumer is not None:
            await stopped(consumer)


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
