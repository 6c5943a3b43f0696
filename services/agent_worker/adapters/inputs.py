"""The inputs topic through aiokafka: one group over all workers, offsets committed by hand."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence

from aiokafka import AIOKafkaConsumer, AIOKafkaProducer, TopicPartition
from aiokafka.errors import CommitFailedError, IllegalStateError, KafkaError

from services.agent_worker.adapters.kafka import bury
from services.agent_worker.validate import Record
from shared import logs
from shared.bus.envelope import dead_letter
from shared.clock import Clock
from shared.kafka import stopped
from shared.moment import rfc3339

GROUP = "turnstile.intake"
MAX_RECORDS = 500
log = logs.get(__name__)


class KafkaInputs:
    """The Inputs port on a started consumer that commits nothing by itself."""

    def __init__(self, consumer: AIOKafkaConsumer) -> None:
        self._consumer = consumer
        self._moved: set[TopicPartition] = set()

    async def batch(self) -> Sequence[Record]:
        """See Inputs.batch."""
        while True:
            found = await self._consumer.getmany(timeout_ms=1_000, max_records=MAX_RECORDS)
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
        moved, self._moved = self._moved, set()
        try:
            async with asyncio.timeout(10.0):
                if held := moved & self._consumer.assignment():
                    await self._consumer.commit({p: await self._consumer.position(p) for p in held})
        except (CommitFailedError, IllegalStateError, KafkaError, TimeoutError) as error:
            self._moved |= moved
            log.warning("offsets_not_committed", error=type(error).__name__)

    async def leave(self) -> None:
        """See Inputs.leave. A consumer may be stopped twice."""
        await stopped(self._consumer)


def burial(
    producer: AIOKafkaProducer, clock: Clock
) -> Callable[[Record, str, str], Awaitable[None]]:
    """A function that puts a record as it came into the dead letters, waiting for as long as the log is away."""

    async def put(record: Record, reason: str, detail: str) -> None:
        headers = dead_letter(
            record.headers,
            reason=reason,
            detail=detail,
            attempts=1,
            at=rfc3339(clock()),
            source=record.source,
        )
        while True:
            try:
                return await bury(
                    producer, key=record.key, value=record.value, headers=headers, reason=reason
                )
            except (KafkaError, TimeoutError) as error:
                log.warning("dead_letter_not_written", error=type(error).__name__)
                await asyncio.sleep(1.0)

    return put
