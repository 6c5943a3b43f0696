"""The inputs topic: one group over all workers, offsets committed by hand."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from datetime import datetime
from typing import Any

from aiokafka.errors import KafkaError

from services.agent_worker.inbox.validate import Bad
from services.agent_worker.ports import InputRecord
from shared import logs
from shared.bus import topics
from shared.bus.envelope import dead_letter
from shared.bus.topics import received_at
from shared.clock import Clock, utcnow
from shared.dead_letters import DeadLetters, Letter
from shared.kafka import started, stopped
from shared.moment import rfc3339
from shared.stream import Member

GROUP = "turnstile.intake"
MAX_RECORDS = 500
# After so long without a record, what was passed is committed.
LOOK_S = 1.0
log = logs.get(__name__)


class KafkaInputConsumer:
    """See InputConsumer. `make` gives members of the group, not started; there is one at a time, from `join` to
    `leave`."""

    def __init__(self, make: Callable[[], Member], clock: Clock = utcnow) -> None:
        self._make = make
        self._member: Member | None = None
        self._clock = clock

    async def join(self) -> Member:
        """Become a member of the group, however long the log is away."""
        if self._member is None:
            self._member = await started(self._make)
        return self._member

    async def batch(self) -> Sequence[InputRecord]:
        """See InputConsumer.batch. Raises what made reading stop."""
        member = await self.join()
        while True:
            if found := await member.batch(LOOK_S):
                now = self._clock()
                return [_record(one, now) for one in found]
            if not member.owes:  # what was passed since the last commit is no record
                await self.commit()

    async def commit(self) -> None:
        """See InputConsumer.commit."""
        if self._member is None:
            return
        try:
            await self._member.commit()
        except (KafkaError, TimeoutError) as error:
            log.warning("offsets_not_committed", error=type(error).__name__)

    async def leave(self) -> None:
        """See InputConsumer.leave. One may leave twice."""
        member, self._member = self._member, None
        if member is not None:
            await stopped(member)


def _record(found: Any, now: datetime) -> InputRecord:
    return InputRecord(
        key=found.key,
        value=found.value,
        headers=found.headers,
        source=f"{found.topic}/{found.partition}/{found.offset}",
        received_at=received_at(found.timestamp, found.timestamp_type, now),
    )


def burial(letters: DeadLetters, clock: Clock) -> Callable[[Sequence[Bad]], Awaitable[None]]:
    """A function that puts records as they came into the dead letters, waiting for as long as the log is away."""

    async def put(bad: Sequence[Bad]) -> None:
        """Put these records into the dead letters; returns once the log has them. Raises KafkaError when the
        producer can never send again."""
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
