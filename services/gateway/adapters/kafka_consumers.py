"""Reading topics: the projector's group (`KafkaRecordConsumer`) and the live tail of this process (`KafkaTail`)."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import AsyncIterator, Callable, Iterable, Iterator, Sequence
from itertools import chain
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
from shared.kafka import stopped
from shared.settings import KafkaSettings
from shared.stream import Member

GROUP = "turnstile.gateway.projector"
TABLES_RECORDS, TAIL_RECORDS = 2_000, 500
# For so long what comes is left to gather after a batch: so much for each of its records, so much at most. What
# comes one by one is read as it comes; of thousands a second many are read at a time, since a batch costs as much
# as dozens of records, here and in the broker. Nobody waits for the tables: a request is shown by who accepted it,
# an event by who told it (`read_model/caught_up.py`). The tail's readers do wait, so it waits less.
TABLES_EACH, TABLES_MOST = 0.002, 0.25
TAIL_EACH, TAIL_MOST = 0.0005, 0.01
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
        headers=found.headers,
        received_at=came,
    )


def joined(joiner: Joiner, found: Iterable[Any]) -> list[Record]:
    """The records, those in parts at the place of their last one."""
    read = (joiner.join(record(one)) for one in found)
    return [one for one in read if one is not None]


class Pace:
    """Keeps the next batch from one: `each` seconds for every record of it, `most` at most. What a batch of `full`
    records left over follows at once. Meanwhile the client holds what it fetched, and fetches nothing more."""

    def __init__(
        self, each: float, most: float, full: int, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._each, self._most, self._full = each, most, full
        self._clock = clock
        self._until = clock()

    def took(self, count: int) -> None:
        """A batch of so many records was taken just now."""
        seconds = min(count * self._each, self._most) if count < self._full else 0.0
        self._until = self._clock() + seconds

    @property
    def left(self) -> float:
        """Seconds until the next batch may be taken."""
        return max(0.0, self._until - self._clock())


class KafkaRecordConsumer:
    """Inputs and events for the projector.

    Range assignment gives a session's partition of both topics to one member, so a session's row has
    one writer.
    """

    def __init__(self, settings: KafkaSettings) -> None:
        self._settings = settings
        self._member: Member | None = None
        self._pace = Pace(TABLES_EACH, TABLES_MOST, TABLES_RECORDS)
        self._joiner = Joiner()
        # Why nothing was read or committed at the last try.
        self._trouble = ""

    async def batch(self, timeout: float) -> Sequence[Record]:
        """See RecordConsumer.batch: TABLES_RECORDS at most. Raises Transient (`kafka_unavailable`)."""
        with self._transient("read"):
            await asyncio.sleep(self._pace.left)
            member = await self._joined()
            found = await member.batch(timeout)
        self._pace.took(len(found))
        self._joiner.keep({(place.topic, place.partition) for place in member.assignment()})
        if not found and not member.owes:
            await self.commit()
        return joined(self._joiner, found)

    async def commit(self) -> None:
        """See RecordConsumer.commit; events of which not all parts came are not counted as dealt with. Raises
        Transient."""
        if self._member is None:
            return
        firsts = {
            place: self._joiner.first((place.topic, place.partition))
            for place in self._member.assignment()
        }
        with self._transient("commit"):
            try:
                await self._member.commit({p: o for p, o in firsts.items() if o is not None})
            except CommitFailedError:
                # A rebalance came first: the new owner applies the batch again.
                _log.info("offsets_left_to_new_owner")

    async def rewind(self) -> None:
        """See RecordConsumer.rewind. Where the log does not say what was committed, the group is left and joined
        again."""
        self._joiner.keep(())
        if self._member is None:
            return
        try:
            await self._member.rewind()
        except (KafkaError, TimeoutError):
            await self.stop()

    async def stop(self) -> None:
        """Leave the group without committing anything."""
        member, self._member = self._member, None
        self._joiner.keep(())
        if member is not None:
            await stopped(member)

    async def check(self) -> None:
        """For readiness: raises Transient while the log can't be read, or offsets not be committed."""
        if self._trouble:
            raise Transient("kafka_unavailable", self._trouble)

    async def _joined(self) -> Member:
        if self._member is None:
            member = Member(
                self._settings,
                CLIENT_ID,
                GROUP,
                INPUTS.name,
                EVENTS.name,
                most=TABLES_RECORDS,
                partition_assignment_strategy=[RangePartitionAssignor],
                max_partition_fetch_bytes=MAX_MESSAGE_BYTES,
            )
            await _start(member)
            self._member = member
        return self._member

    @contextlib.contextmanager
    def _transient(self, doing: str) -> Iterator[None]:
        """Of the log's errors a Transient one, which readiness knows until the next success."""
        try:
            yield
        except (KafkaError, TimeoutError) as error:
            self._trouble = f"{doing}: {type(error).__name__}"
            raise Transient("kafka_unavailable", self._trouble) from error
        except Transient as error:
            self._trouble = str(error)
            raise
        self._trouble = ""


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
            joiner, pace = Joiner(), Pace(TAIL_EACH, TAIL_MOST, TAIL_RECORDS)
            yield []  # from here on nothing is missed
            while True:
                await asyncio.sleep(pace.left)
                found = list(
                    chain.from_iterable((await consumer.getmany(timeout_ms=1000)).values())
                )
                pace.took(len(found))
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
