"""What the recorder needs of the world: a log to read, an archive to write, a place for bad records."""

from __future__ import annotations

from collections.abc import Awaitable, Collection, Mapping, Sequence
from typing import Protocol

from aiokafka import ConsumerRebalanceListener, TopicPartition

from shared.bus import parts


class Record(parts.Record, Protocol):
    """What is used of a Kafka record. `timestamp` is in milliseconds since 1970."""

    @property
    def timestamp(self) -> int: ...


class Log(Protocol):
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


class Out(Protocol):
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


class Writer(Protocol):
    """Blocking; raises Refused or Away (see `writer`)."""

    def insert(self, body: bytes) -> None: ...
