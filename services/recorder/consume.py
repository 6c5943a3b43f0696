"""Brings records from the log into the archive: read, insert, commit, always in this order.

One batch is inserted while the next is read, and no more than that is held. A full batch that waits for the one
before it goes on growing, to twice its size, and is inserted in two halves at once (`archive.ArchiveSink`). While
ClickHouse is away the partitions are paused, polling goes on (so the group keeps this member), and the log is the
buffer. What is left to do for a batch whose rows are in (dead letters, offsets) is done beside the insert of the
next one.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from typing import Any

from aiokafka import ConsumerRebalanceListener, TopicPartition
from aiokafka.errors import KafkaError

from services.recorder import archive
from services.recorder.kafka import GROUP, TOPIC
from services.recorder.ports import BadRecord, DeadLetterSender, EventConsumer, Record, RowSink
from services.recorder.rows import Batch, KeptRecord, is_ours
from services.recorder.settings import RecorderSettings
from shared import dead_letters as letters
from shared import logs, metrics
from shared.bus.brake import Brake
from shared.bus.envelope import dead_letter
from shared.bus.parts import Joiner
from shared.clock import Clock
from shared.kafka import RETRY_S, is_passing, measure
from shared.logs import Flood
from shared.moment import rfc3339


class KafkaDeadLetterSender:
    """Publishes bad records as dead letters, many under way at once."""

    def __init__(self, letters: letters.DeadLetters, clock: Clock) -> None:
        self._letters = letters
        self._clock = clock

    async def send(self, found: Sequence[BadRecord]) -> None:
        """Send all of them, however long the log is away; sent again, they come twice. Raises KafkaError when the
        producer can never send again."""
        at = rfc3339(self._clock())
        await self._letters.put([_letter(one, at) for one in found])


def source(bad: BadRecord) -> str:
    """`topic/partition/offset`."""
    return f"{bad.record.topic}/{bad.record.partition}/{bad.record.offset}"


def _letter(bad: BadRecord, at: str) -> letters.Letter:
    record, place = bad.record, source(bad)
    headers = dead_letter(
        record.headers,
        reason=bad.reason,
        detail=bad.detail,
        attempts=1,
        at=at,
        source=place,
    )
    # ClickHouse quotes the row it refuses, and a row is what somebody said: that stays in the letter.
    said = None if bad.reason == "refused_by_clickhouse" else bad.detail
    return letters.Letter(
        key=record.key,
        value=record.value,
        headers=headers,
        reason=bad.reason,
        topic=record.topic,
        place=place,
        said=said,
    )


# How long an insert may take before reading is paused and polling goes on without reading.
PAUSE_AFTER_S = 2.0
# A rebalance waits this long for the batch that is being inserted; the group waits 30 s for us.
REVOKE_TIMEOUT_S = 10.0
# Records the client makes at once. They are let go of before it makes the next ones, in the same memory.
TAKEN_AT_ONCE = 100
# A batch that waits for the one before it may grow to so many times its size.
GROWTH = 2
# Of the whole stop: the batches in flight and the one in hand.
STOP_TIMEOUT_S = 10.0
# Bad records of one reason that are told one by one, in ten seconds.
TOLD_EACH = 20

log = logs.get("recorder")


@dataclass(frozen=True, slots=True)
class Flight:
    """A batch on its way. `inserted` is done when its rows are in, or it failed; `task` when its bad records are
    dead letters and its offsets committed too, or with what it failed of."""

    inserted: asyncio.Future[None]
    task: asyncio.Task[None]


class Recorder(ConsumerRebalanceListener):
    """Reads the events topic into the archive until `stop`.

    At every moment there is at most one batch in hand (being read), one being inserted, one that is in and not yet
    committed, and a remainder of the last read. Offsets are committed batch after batch, when a batch is in and its
    bad records are dead letters.
    """

    def __init__(
        self,
        consumer: EventConsumer,
        archive: RowSink,
        dead: DeadLetterSender,
        brake: Brake,
        settings: RecorderSettings,
        clock: Clock,
        topic: str = TOPIC,
    ) -> None:
        self._consumer = consumer
        self._archive = archive
        self._dead = dead
        self._brake = brake
        self._settings = settings
        self._clock = clock
        self._topic = topic
        self._hand = Batch()
        self._launched = float("-inf")
        self._rest: deque[Record] = deque()
        self._joiner = Joiner()
        self._flood = Flood(TOLD_EACH)
        # The oldest first.
        self._flights: list[Flight] = []
        # Raised by every rebalance: what was read before it is read again by whoever has the partition now.
        self._generation = 0
        self._committed: dict[TopicPartition, int] = {}
        # Not set while partitions are being given up: what is sent on its way then would come again.
        self._keeping = asyncio.Event()
        self._keeping.set()
        self._stopping = asyncio.Event()

    def stop(self) -> None:
        """Ask `run` to finish what is in hand and return."""
        self._stopping.set()

    async def run(self) -> None:
        """Record until stopped. Raises Braked, or whatever made going on impossible; offsets are then as far as
        the last batch that went well."""
        self._consumer.subscribe([self._topic], listener=self)
        reading = asyncio.create_task(self._read(), name="recorder-read")
        stopping = asyncio.create_task(self._stopping.wait(), name="recorder-stop")
        try:
            await asyncio.wait({reading, stopping}, return_when=asyncio.FIRST_COMPLETED)
            if reading.done():
                # What is in hand is dropped.
                await self._settle(STOP_TIMEOUT_S)
                await reading
        finally:
            for task in (reading, stopping):
                task.cancel()
            await asyncio.wait({reading, stopping})
        await self._finish()

    async def _read(self) -> None:
        while True:
            came = await self._fill()
            if self._is_due():
                await self._launch()
            elif not came and self._is_at_rest():
                await self._pass_by()

    def _is_at_rest(self) -> bool:
        """Whether everything that was read is in: nothing in hand, nothing on its way, nothing that failed
        there."""
        tasks = [flight.task for flight in self._flights]
        landed = all(task.done() and task.exception() is None for task in tasks)
        return landed and not self._hand and not self._rest

    async def _pass_by(self) -> None:
        """Commit how far was read: what is behind the last record is none, such as the end of a transaction."""
        whole = [
            place
            for place in self._consumer.assignment()
            if self._joiner.first((place.topic, place.partition)) is None
        ]
        try:
            reach = {place: await self._consumer.position(place) for place in whole}
            new = dict(reach.items() - self._committed.items())
            if new:
                await self._consumer.commit(new)
        except KafkaError as error:
            log.warning("offsets_not_committed", error=type(error).__name__)
        else:
            self._measure_lag(new)

    async def _fill(self) -> bool:
        """Wait for records until the batch in hand is due, then take all that the client has and the hand has room
        for; whether there were any."""
        wait = self._settings.recorder_batch_seconds
        if self._hand:
            wait = max(0.0, self._launched + wait - self._now())
        came = more = await self._take(wait)
        while more and not self._is_full():
            more = await self._take(0)
        while self._may_grow() and (await self._take(0) or await self._take_meanwhile()):
            pass
        return came

    def _may_grow(self) -> bool:
        """Whether a full hand may take more, since the rows before it are not in yet."""
        return self._is_full() and not self._is_full(self._most())

    def _most(self) -> int:
        """How many times its size a batch may have now."""
        under_way = bool(self._flights) and not self._flights[-1].inserted.done()
        return GROWTH if under_way else 1

    async def _take(self, wait: float) -> bool:
        """Have records in the hand within `wait` seconds; whether some came."""
        # Nothing waits in between: a rebalance that drops the hand must find them there.
        found = await self._poll(wait)
        self._refill(found)
        return bool(found)

    async def _take_meanwhile(self) -> bool:
        """The same until the rows on their way are in, for PAUSE_AFTER_S at most."""
        taking = asyncio.create_task(self._take(PAUSE_AFTER_S), name="recorder-take")
        both: set[asyncio.Future[Any]] = {taking, self._flights[-1].inserted}
        try:
            await asyncio.wait(both, return_when=asyncio.FIRST_COMPLETED)
        finally:
            taking.cancel()
            await asyncio.wait({taking})
        return not taking.cancelled() and taking.result()

    async def _poll(self, wait: float) -> list[Record]:
        """Records, in order per partition; none when none came within `wait` seconds, or some are left over."""
        if self._rest:
            return []
        room = self._most() * self._settings.recorder_batch_rows - self._hand.count
        most = max(1, min(room, TAKEN_AT_ONCE))
        # As long as it has records the client lets nobody else run: batches in flight have their turn here.
        await asyncio.sleep(0)
        try:
            found = await self._consumer.getmany(timeout_ms=int(wait * 1000), max_records=most)
        except KafkaError as error:
            if not is_passing(error):
                raise
            # The client has told it now, and joins its group again by itself.
            log.warning("nothing_read", error=str(error))
            await asyncio.sleep(RETRY_S)
            return []
        return [record for records in found.values() for record in records]

    def _refill(self, records: list[Record]) -> None:
        """Move records into the hand until it is full; the rest waits."""
        self._rest.extend(records)
        good, hand, rest, joiner = 0, self._hand, self._rest, self._joiner
        most = self._most() * self._settings.recorder_batch_rows
        heaviest = self._most() * self._settings.recorder_batch_bytes
        while rest and hand.count < most and hand.size < heaviest:
            record: Record | None = (found := rest.popleft())
            if joiner.holds or type(found) is not KeptRecord:
                record = joiner.join(found)
            if record is None:
                hand.pass_over(found)
                continue
            if hand.add(record):
                good += 1
                continue
            self._brake.good(good)
            good = 0
            self._note(self._hand.bad[-1])
            if is_ours(found):
                self._brake.bad()
        self._brake.good(good)
        self._measure_hand()

    def _note(self, bad: BadRecord) -> None:
        """Log a bad record. This comes before the brake is pulled, whose message refers to it."""
        if self._flood.passes(bad.reason) is not None:
            log.warning("bad_record", reason=bad.reason, detail=bad.detail)

    def _is_full(self, times: int = 1) -> bool:
        """Whether the hand has the size of so many batches."""
        settings, hand = self._settings, self._hand
        return (
            hand.count >= times * settings.recorder_batch_rows
            or hand.size >= times * settings.recorder_batch_bytes
        )

    def _is_due(self) -> bool:
        """One batch in so many seconds, or as soon as one is full: what comes after a silence goes at once."""
        age = self._now() - self._launched
        return bool(self._hand) and (
            self._is_full() or age >= self._settings.recorder_batch_seconds
        )

    async def _launch(self) -> None:
        """Send the hand on its way as soon as the rows of the batch before it are in."""
        await self._landed(whole=False)
        await self._keeping.wait()
        batch, self._hand, self._launched = self._hand, Batch(), self._now()
        self._measure_hand()
        # Now, not when it is in: by then the rest of an event may be in the batch behind it.
        batch.hold(self._joiner)
        if batch:
            inserted: asyncio.Future[None] = asyncio.get_running_loop().create_future()
            before = self._flights[-1].task if self._flights else None
            flight = self._fly(batch, self._generation, before, inserted)
            task = asyncio.create_task(flight, name="recorder-insert")
            task.add_done_callback(self._crashed)
            self._flights.append(Flight(inserted, task))

    def _crashed(self, flight: asyncio.Task[None]) -> None:
        """End the run when a flight failed, even if nothing more is read."""
        if not flight.cancelled() and flight.exception() is not None:
            self._stopping.set()

    async def _landed(self, *, whole: bool) -> None:
        """Wait, paused but polling, until all batches in flight are committed, or the newest at least inserted
        unless it shall be `whole`; the exception of one that failed is raised here."""
        waiting: set[asyncio.Future[None]] = {flight.task for flight in self._flights}
        if self._flights and not whole:
            newest = self._flights[-1]
            waiting = {*waiting - {newest.task}, newest.inserted}
        paused: Collection[TopicPartition] = ()
        while waiting := {one for one in waiting if not one.done()}:
            _, waiting = await asyncio.wait(waiting, timeout=PAUSE_AFTER_S)
            if waiting:
                paused = self._consumer.assignment()
                self._consumer.pause(*paused)
                metrics.set_gauge("turnstile_recorder_paused", 1)
                found = await self._consumer.getmany(timeout_ms=0)
                self._rest.extend(record for records in found.values() for record in records)
        if paused:
            self._consumer.resume(*self._consumer.assignment())
            metrics.set_gauge("turnstile_recorder_paused", 0)
        done = [flight for flight in self._flights if flight.task.done()]
        self._flights = [flight for flight in self._flights if not flight.task.done()]
        for flight in done:
            await flight.task

    async def _fly(
        self,
        batch: Batch,
        generation: int,
        before: asyncio.Task[None] | None,
        inserted: asyncio.Future[None],
    ) -> None:
        """Insert; then, behind the batch `before`, bury and commit. Raises what that one failed of: its records
        come again, and nothing behind them may be committed."""
        with archive.batch_span(batch):
            start = self._clock()
            try:
                with archive.insert_span(batch):
                    refused = await self._archive.bring_in(batch.rows)
            finally:
                inserted.set_result(None)
            end = self._clock()
            archive.archived(batch, start, end)
            if before is not None:
                await asyncio.shield(before)
            if bad := [*batch.bad, *refused]:
                await self._dead.send(bad)
            await self._commit(batch, generation)
        if batch.oldest is not None:
            age = end.timestamp() - batch.oldest / 1000
            metrics.observe("turnstile_event_archived_seconds", max(0.0, age))

    async def _commit(self, batch: Batch, generation: int) -> None:
        """Commit what the batch reaches, unless the partitions changed hands since it was read."""
        if generation != self._generation:
            log.info("offsets_left_to_new_owner", records=batch.count)
            return
        offsets = {
            TopicPartition(topic, partition): offset
            for (topic, partition), offset in batch.reach.items()
        }
        try:
            await self._consumer.commit(offsets)
        except KafkaError as error:
            # The next batch's commit reaches further; without one the rows come again and are replaced.
            log.warning("offsets_not_committed", error=type(error).__name__)
        self._measure_lag(offsets)

    def _measure_hand(self) -> None:
        metrics.set_gauge("turnstile_recorder_in_hand", self._hand.count + len(self._rest))

    def _measure_lag(self, committed: dict[TopicPartition, int]) -> None:
        self._committed.update(committed)
        measure(self._consumer, GROUP, self._committed)

    async def on_partitions_revoked(self, revoked: Collection[TopicPartition]) -> None:
        """Let what is in flight land and drop what was only read: the next owner reads it again."""
        self._keeping.clear()
        try:
            await self._settle(REVOKE_TIMEOUT_S)
        finally:
            self._keeping.set()
        self._generation += 1
        self._committed.clear()
        self._hand = Batch()
        self._rest.clear()
        self._joiner.keep(())
        self._measure_hand()

    async def on_partitions_assigned(self, assigned: Collection[TopicPartition]) -> None:
        log.info("partitions_assigned", partitions=sorted(item.partition for item in assigned))

    async def _settle(self, seconds: float) -> None:
        """Let what is in flight land, for so long at most; what it fails of is not raised."""
        if self._flights:
            await asyncio.wait([flight.task for flight in self._flights], timeout=seconds)

    async def _finish(self) -> None:
        """Stopped: bring in what is in flight and in hand, within STOP_TIMEOUT_S; the rest stays in the log."""
        try:
            async with asyncio.timeout(STOP_TIMEOUT_S):
                await self._launch()
                await self._landed(whole=True)
        except TimeoutError:
            # It is read again.
            log.warning("batch_not_committed")
            for flight in self._flights:
                flight.task.cancel()

    def _now(self) -> float:
        return asyncio.get_running_loop().time()
