"""What the recorder depends on: a log to read, an archive to write, a place for bad records."""

from __future__ import annotations

from collections.abc import Awaitable, Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

from aiokafka import ConsumerRebalanceListener, TopicPartition

from shared.bus import parts


class Record(parts.Record, Protocol):
    """What is used of a Kafka record. `timestamp` is in milliseconds since 1970."""

    @property
    def timestamp(self) -> int: ...


class GoodRecord(Record, Protocol):
    """A record whose value is a row. `erases`: it says that its session is erased."""

    @property
    def erases(self) -> bool: ...


@dataclass(frozen=True, slots=True)
class BadRecord:
    """A record that can't be archived: `reason` is a stable word, `detail` says what is wrong."""

    record: Record
    reason: str
    detail: str


class EventConsumer(Protocol):
    """The part of AIOKafkaConsumer that is used; offsets are those of the next record, as Kafka counts them."""

    def subscribe(
        self, topics: Sequence[str], *, listener: ConsumerRebalanceListener | None = None
    ) -> None: ...
    def assignment(self) -> Collection[TopicPartition]: ...
    def pause(self, *partitions: TopicPartition) -> None: ...
    def resume(self, *partitions: TopicPartition) -> None: ...
    def highwater(self, partition: TopicPartition) -> int | None: ...
    def last_stable_offset(self, partition: TopicPartition) -> int | None: ...
    async def position(self, partition: TopicPartition) -> int: ...
    async def commit(self, offsets: Mapping[TopicPartition, int]) -> None: ...
    async def topics(self) -> Collection[str]: ...
    async def start(self) -> None: ...
    async def stop(self) -> None: ...
    async def getmany(
        self, *, timeout_ms: int, max_records: int | None = None
    ) -> Mapping[TopicPartition, Sequence[Record]]:
        """Records of partitions this member owns now, never of paused ones; empty after `timeout_ms`."""


class KafkaProducer(Protocol):
    """The part of `shared.stream.Publishing` that is used."""

    async def start(self) -> None: ...
    async def stop(self) -> None: ...
    async def send(
        self,
        topic: str,
        *,
        value: bytes | None,
        key: bytes | None,
        headers: Sequence[tuple[str, bytes]],
    ) -> Awaitable[object]:
        """Put the record among those to be sent; what is returned is done once all replicas have it."""

    async def send_and_wait(
        self,
        topic: str,
        *,
        value: bytes | None,
        key: bytes | None,
        headers: Sequence[tuple[str, bytes]],
    ) -> object: ...


class ArchiveWriter(Protocol):
    """Blocking, for several threads at once; raises Refused or Away (see `archive`)."""

    def insert(self, body: bytes) -> None: ...


class DeadLetterSender(Protocol):
    """Publishes bad records on turnstile.dead.v1."""

    async def send(self, found: Sequence[BadRecord]) -> None:
        """Send all of them, however long the log is away. Raises KafkaError when it can never send again."""


class RowSink(Protocol):
    """Where the rows of a batch go. Not for two batches at once."""

    async def bring_in(self, rows: Sequence[GoodRecord]) -> list[BadRecord]:
        """Return once all rows are in, but those that are refused one by one; returns these."""
