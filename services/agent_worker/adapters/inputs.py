"""The inputs topic: one group over all workers, offsets committed by hand."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from datetime import datetime
from typing import Any

from aiokafka import TopicPartition
from aiokafka.errors import KafkaError

from services.agent_worker.inbox.validate import Bad
from services.agent_worker.ports import InputRecord
from shared import logs
from shared.bus import topics
from shared.bus.envelope import dead_letter
from shared.bus.topics import received_at
from shared.clock import Clock, utcnow
from shared.dead_letters import DeadLetters, Letter
from shared.kafka import RETRY_S, is_passing, started, stopped
from shared.moment import rfc3339
from shared.stream import COMMIT_TIMEOUT_S, Member

GROUP = "turnstile.intake"
MAX_RECORDS = 500
# After so long without a record, what was passed is committed.
LOOK_S = 1.0
# What was dealt with is committed once nothing has come for QUIET_S, after LATEST_S where something always comes:
# while a turn that was just taken in is on its way to the agent, the processor has better things to do.
QUIET_S, LATEST_S = 0.05, 0.5
# How long a member that leaves tries to commit: what it can't is given to the next one again.
LEAVE_S = 2.0
log = logs.get(__name__)


class KafkaInputConsumer:
    """See InputConsumer. `make` gives members of the group, not started; there is one at a time, from `join` to
    `leave`."""

    def __init__(self, make: Callable[[], Member], clock: Clock = utcnow) -> None:
        self._make = make
        self._member: Member | None = None
        self._clock = clock
        # How far the last batch reached, and how far those did that are dealt with and not committed, since when.
        self._given: dict[TopicPartition, int] = {}
        self._dealt_with: dict[TopicPartition, int] = {}
        self._since = 0.0

    async def join(self) -> Member:
        """Become a member of the group, however long the log is away."""
        if self._member is None:
            self._member = await started(self._make)
        return self._member

    async def batch(self) -> Sequence[InputRecord]:
        """See InputConsumer.batch. Raises what made reading stop, unless it passes: then the group is left and
        joined again."""
        while True:
            try:
                return await self._batch(await self.join())
            except KafkaError as error:
                if not is_passing(error):
                    raise
                log.warning("inputs_joined_again", error=str(error))
                await self.leave()
                await asyncio.sleep(RETRY_S)

    async def _batch(self, member: Member) -> Sequence[InputRecord]:
        while True:
            if found := await member.batch(QUIET_S if self._dealt_with else LOOK_S):
                now = self._clock()
                self._given = {TopicPartition(r.topic, r.partition): r.offset + 1 for r in found}
                return [_record(one, now) for one in found]
            if self._dealt_with or not member.owes:  # else what was passed since is no record
                await self._commit(member, COMMIT_TIMEOUT_S)

    async def commit(self) -> None:
        """See InputConsumer.commit."""
        now = asyncio.get_running_loop().time()
        if not self._dealt_with:
            self._since = now
        self._dealt_with |= self._given
        self._given = {}
        if self._member is not None and now - self._since >= LATEST_S:
            await self._commit(self._member, COMMIT_TIMEOUT_S)

    async def leave(self) -> None:
        """See InputConsumer.leave. One may leave twice."""
        member, self._member = self._member, None
        self._given = {}
        if member is not None:
            if self._dealt_with:
                await self._commit(member, LEAVE_S)
            await stopped(member)

    async def _commit(self, member: Member, seconds: float) -> None:
        """Commit what is dealt with; what can't be is covered by the next commit."""
        reached, self._dealt_with = self._dealt_with, {}
        try:
            async with asyncio.timeout(seconds):
                await member.commit(reached)
        except (KafkaError, TimeoutError) as error:
            log.warning("offsets_not_committed", error=type(error).__name__)


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
