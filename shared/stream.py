"""Kafka through FastStream: members of consumer groups (`Member`) and what publishes (`Publishing`).

FastStream owns the clients, the reading task, the handler's call and the graceful stop. What it would do by default
and must not (docs/decisions/0019) is turned off here, in one place:

- a member commits by named offsets, once its reader has dealt with them; FastStream acknowledges nothing;
- an error in the reading task reaches the reader, and reading stops; FastStream would log it and go on;
- records come as they are in the log: nothing is decoded, and no header decides anything;
- a handler is given all records that were fetched already, at once, without a wait for more.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Awaitable, Callable, Collection, Iterator, Mapping, Sequence
from functools import lru_cache
from itertools import chain
from typing import Any, cast

from aiokafka import ConsumerRecord, TopicPartition
from aiokafka.errors import KafkaError, ProducerClosed
from aiokafka.partitioner import DefaultPartitioner, murmur2
from faststream import AckPolicy, BaseMiddleware
from faststream.kafka import KafkaBroker, Topic
from faststream.kafka.message import KafkaMessage
from faststream.kafka.publisher.producer import AioKafkaFastProducerImpl
from faststream.kafka.publisher.state import RealProducer
from faststream.security import (
    SASLGSSAPI,
    BaseSecurity,
    SASLPlaintext,
    SASLScram256,
    SASLScram512,
)

from shared import logs, metrics
from shared.bus.topics import READ_COMMITTED
from shared.kafka import measure
from shared.settings import KafkaSettings

# How long the handler in hand may take when a member stops. It only waits for its reader, and is let go first.
GRACEFUL_S = 5.0
COMMIT_TIMEOUT_S = 10.0
CHECK_TIMEOUT_S = 4.5
LOOK_AGAIN_S = 0.1
_PASSWORDS: dict[str, type[SASLPlaintext | SASLScram256 | SASLScram512]] = {
    "PLAIN": SASLPlaintext,
    "SCRAM-SHA-256": SASLScram256,
    "SCRAM-SHA-512": SASLScram512,
}
Record = ConsumerRecord[bytes, bytes]
# Records by partition, in order.
Found = Mapping[TopicPartition, Sequence[Record]]
log = logs.get(__name__)


class Member:
    """A member of a consumer group from `start` to `stop`, once; one task reads it batch by batch.

    `options` are those of a FastStream subscriber, which hands them to aiokafka's consumer. A batch has at most
    `most` records.
    """

    def __init__(
        self,
        kafka: KafkaSettings,
        client_id: str,
        group: str,
        *topics: str,
        most: int = 500,
        **options: Any,
    ) -> None:
        self._group = group
        self._most = most
        self._broker = _broker(
            kafka,
            client_id,
            consumer_only=True,
            middlewares=[self._watched],
            logger=_Errors(self._failed),
        )
        declare: Any = self._broker.subscriber
        self._subscriber = declare(
            *(Topic(name, declare=False) for name in topics),
            **kafka.membership(group),
            isolation_level=READ_COMMITTED,
            ack_policy=AckPolicy.MANUAL,
            # A stranger's `reply_to` header would have the handler's result published where they like.
            no_reply=True,
            parser=self._parsed,
            decoder=_as_it_came,
            **options,
        )
        self._subscriber(self._hand_over)
        # What FastStream's task has handed over, and whether the reader was given it.
        self._hand: Found = {}
        self._is_given = False
        # Batches taken from the log, and of them those that the reader was given or that will be read again.
        self._taken = self._given = 0
        self._news, self._dealt_with = asyncio.Event(), asyncio.Event()
        self._error: BaseException | None = None
        self._stopping = False
        self._moved: set[TopicPartition] = set()
        self._committed: dict[TopicPartition, int] = {}
        # Whether records were given since the last commit.
        self._owes = False

    async def start(self) -> None:
        """Join the group. Raises KafkaError or OSError when the log is away; `stop` then as well."""
        await self._broker.start()
        for task in self._subscriber.tasks:
            task.add_done_callback(self._ended)

    async def stop(self) -> None:
        """Leave the group without committing anything; what the reader holds is for the next member."""
        self._stopping = True
        self._dealt_with.set()
        try:
            await self._broker.stop()
        except ExceptionGroup as failures:  # one subscriber, so one failure
            raise failures.exceptions[0] from None

    @property
    def consumer(self) -> Any:
        """aiokafka's consumer of a member that has started."""
        return self._subscriber.consumer

    def assignment(self) -> Collection[TopicPartition]:
        """The partitions that are this member's now."""
        return cast("Collection[TopicPartition]", self.consumer.assignment())

    async def batch(self, timeout: float | None = None) -> Sequence[Record]:
        """The next records, partition by partition in order; none after `timeout` seconds. Those given before count
        as dealt with: nothing is read while they are not. Raises what made reading stop, at every later call too.
        """
        if self._is_given:
            self._let_go()
        if not self._hand and self._error is None:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(timeout):
                    await self._news.wait()
        if self._hand:
            self._is_given = self._owes = True
            self._given = self._taken
            self._moved.update(self._hand)
            return list(chain.from_iterable(self._hand.values()))
        if self._error is not None:
            raise self._error
        if not self._owes:  # what was passed since the last commit is no record
            self._moved.update(self.assignment())
        return []

    @property
    def owes(self) -> bool:
        """Whether records were given since the last commit."""
        return self._owes

    async def commit(self, held: Mapping[TopicPartition, int] | None = None) -> None:
        """Commit by name how far partitions were read that moved since the last commit and are still assigned;
        no further than `held` says. Only what reaches further than before: a dozen offsets a commit would be what
        a broker that starts again has to read most of. Raises KafkaError or TimeoutError; the next commit then
        covers it."""
        moved, self._moved, self._owes = self._moved, set(), False
        try:
            async with asyncio.timeout(COMMIT_TIMEOUT_S):
                reached = await self._reached(moved.intersection(self.assignment())) | {
                    place: offset for place, offset in (held or {}).items() if place in moved
                }
                assigned = self.assignment()
                self._committed = {p: o for p, o in self._committed.items() if p in assigned}
                new = {p: o for p, o in reached.items() - self._committed.items() if p in assigned}
                if new:
                    await self.consumer.commit(new)
        except BaseException:
            self._moved |= moved
            raise
        self._committed |= new
        measure(self.consumer, self._group, self._committed)

    async def rewind(self) -> None:
        """Give again whatever was not committed. Raises KafkaError or TimeoutError, or what made reading stop; then
        only another member can."""
        if self._error is not None:
            raise self._error
        # Between two assignments there is none: the next one begins at what was committed.
        if assigned := self.assignment():
            async with asyncio.timeout(COMMIT_TIMEOUT_S):
                found = await self.consumer.seek_to_committed(*assigned)
                # aiokafka leaves those where they are of which nothing was committed, or 0.
                if first := [place for place, offset in found.items() if not offset]:
                    await self.consumer.seek_to_beginning(*first)
        self._moved.clear()
        self._owes = False
        if self._hand:
            self._given = self._taken
            self._let_go()

    async def _reached(self, places: Collection[TopicPartition]) -> dict[TopicPartition, int]:
        """Positions; none when the reading task has taken records that the reader does not know yet: positions are
        behind them already. While a batch is given that task stands still."""
        found = {place: await self.consumer.position(place) for place in places}
        return found if self._given == self._taken else {}

    def _let_go(self) -> None:
        """The batch in hand is dealt with; FastStream's task reads on."""
        self._hand, self._is_given = {}, False
        self._news.clear()
        self._dealt_with.set()

    async def _hand_over(self, found: Found) -> None:
        """FastStream's handler: returns once the reader has dealt with the records."""
        self._hand = found
        self._dealt_with.clear()
        self._news.set()
        if not self._stopping:
            await self._dealt_with.wait()

    async def _parsed(self, first: Record) -> KafkaMessage:
        """One message around the record and those that were fetched with it, bytes as they came."""
        self._taken += 1
        found = _joined(first, {})
        with _noticed(self._group):  # it comes again, and nothing of this batch is lost
            rest = await self.consumer.getmany(timeout_ms=0, max_records=self._most - 1)
            found = _joined(first, rest)
        return KafkaMessage(raw_message=first, body=found, consumer=self.consumer)

    def _watched(self, message: Any, /, *, context: Any) -> BaseMiddleware[Any, Any]:
        return _Watch(message, context=context, failed=self._failed)

    def _failed(self, error: BaseException) -> None:
        """Reading stops; the first error is the reader's."""
        self._subscriber.running = False
        if self._error is None and not self._stopping:
            # Who is cancelled without having been stopped reads no more either: nobody else would know.
            cancelled = isinstance(error, asyncio.CancelledError)
            self._error = RuntimeError("the reading task was cancelled") if cancelled else error
            _count(self._error, self._group)
        self._news.set()

    def _ended(self, task: asyncio.Task[Any]) -> None:
        """The reading task ended; FastStream must not be the only one that knows why."""
        if task.cancelled():
            self._failed(asyncio.CancelledError())
        elif not self._stopping:
            self._failed(task.exception() or RuntimeError("the reading task ended by itself"))


class _Watch(BaseMiddleware[Any, Any]):
    """Reports the error that handling a message ended with; FastStream would only log it."""

    def __init__(
        self, message: Any, /, *, context: Any, failed: Callable[[BaseException], None]
    ) -> None:
        super().__init__(message, context=context)
        self._failed = failed

    async def after_processed(
        self, exc_type: Any = None, exc_val: BaseException | None = None, exc_tb: Any = None
    ) -> bool | None:
        if exc_val is not None:
            self._failed(exc_val)
        return await super().after_processed(exc_type, exc_val, exc_tb)


class _Errors:
    """FastStream's logger. Its reading task has only this to say that the log refuses it: it would log, wait five
    seconds and try again for ever. What else it says, our own logs say."""

    def __init__(self, failed: Callable[[BaseException], None]) -> None:
        self._failed = failed

    def log(
        self,
        level: int,
        msg: Any,
        /,
        *,
        exc_info: Any = None,
        extra: Mapping[str, Any] | None = None,
    ) -> None:
        """Hand the exception to `failed`, where there is one; the message itself is dropped."""
        if isinstance(exc_info, BaseException):
            self._failed(exc_info)


async def _as_it_came(message: Any) -> Any:
    """The decoder: none."""
    return message.body


def _joined(first: Record, rest: Found) -> Found:
    """The first record and the rest; without the first when a rebalance had its partition read anew meanwhile."""
    place = TopicPartition(first.topic, first.partition)
    same = rest.get(place, ())
    again = bool(same) and same[0].offset <= first.offset
    return {
        place: same if again else (first, *same),
        **{p: o for p, o in rest.items() if p != place},
    }


@contextlib.contextmanager
def _noticed(group: str) -> Iterator[None]:
    """A KafkaError is counted and goes no further."""
    try:
        yield
    except KafkaError as error:
        _count(error, group)


def _count(error: BaseException, group: str) -> None:
    if isinstance(error, KafkaError):
        metrics.inc("turnstile_consumer_errors_total", group=group)
        log.warning("kafka_refuses_the_reader", group=group, error=type(error).__name__)


# Sessions whose place is known by heart: to compute it costs as much as to encode what is published.
@lru_cache(maxsize=65_536)
def _hashed(key: bytes) -> int:
    return cast("int", murmur2(key)) & 0x7FFFFFFF


def partition_of(key: bytes | None, partitions: Sequence[int], available: Sequence[int]) -> int:
    """The partition of a key, as the Java client's default partitioner has it."""
    if key is None:
        return cast("int", DefaultPartitioner()(key, partitions, available))
    return partitions[_hashed(key) % len(partitions)]


class Publishing:
    """An idempotent producer with acks=all, from `start` to `stop`, once. `options` are those of a FastStream
    broker, which hands them to aiokafka's producer."""

    def __init__(self, kafka: KafkaSettings, client_id: str, **options: Any) -> None:
        self._producer = _Producer(parser=None, decoder=None)
        self._broker = _broker(
            kafka,
            client_id,
            logger=None,
            acks="all",
            enable_idempotence=True,
            partitioner=partition_of,
            **options,
        )
        # Not documented; tests/contract/test_stream.py notices when it moves.
        self._broker.config.broker_config.producer = self._producer

    async def start(self) -> None:
        """Connect. Raises KafkaError or OSError when the log is away; nothing stays open then."""
        try:
            await self._broker.start()
        except BaseException:
            await self._broker.stop()
            raise

    async def stop(self) -> None:
        """Send what is queued and close."""
        await self._broker.stop()

    async def send(
        self,
        topic: str,
        *,
        value: bytes | None,
        key: bytes | None,
        headers: Sequence[tuple[str, bytes]],
    ) -> asyncio.Future[Any]:
        """Put the record among those to be sent, with these headers and no others; what is returned is done once
        all replicas have it. Raises KafkaError."""
        sent = await self._producer.client.send(topic, value=value, key=key, headers=headers)
        return cast("asyncio.Future[Any]", sent)

    async def send_and_wait(
        self,
        topic: str,
        *,
        value: bytes | None,
        key: bytes | None,
        headers: Sequence[tuple[str, bytes]],
    ) -> object:
        """Return once all replicas have the record. Raises KafkaError."""
        return await (await self.send(topic, value=value, key=key, headers=headers))

    async def check(self) -> None:
        """Ask the broker, not the client's view of it. Raises ConnectionError, KafkaError or TimeoutError."""
        async with asyncio.timeout(CHECK_TIMEOUT_S):
            if not await self._producer.client.client.force_metadata_update():
                raise ConnectionError("the log does not answer")


class _Producer(AioKafkaFastProducerImpl):
    """FastStream's producer without its serializer, correlation id and content type: bytes and headers as given."""

    @property
    def client(self) -> Any:
        """aiokafka's producer. Raises ProducerClosed when there is none."""
        if not self:
            raise ProducerClosed
        return self._producer.producer

    async def connect(self, producer: Any, serializer: Any, codec: Any = None) -> None:
        """Start it, or leave nothing open."""
        _pause_between_looks(producer.client, asyncio.sleep)
        try:
            await producer.start()
        except BaseException:
            await producer.stop()
            raise
        self._producer = RealProducer(producer)

    async def publish(self, cmd: Any) -> Any:
        """What FastStream publishes on its own account: nothing has a reason to."""
        raise NotImplementedError("records are published by Publishing.send")

    publish_batch = publish


def _pause_between_looks(client: Any, sleep: Callable[[float], Awaitable[object]]) -> None:
    """Have aiokafka's client pause for LOOK_AGAIN_S when nobody tells it where the partitions are.

    A producer with something to send asks again without end, and a refused connection fails at once: it took a
    third of a core while the log was away. `_metadata_update` is not documented; a test notices when it moves.
    """
    look = client._metadata_update

    async def paused(*about: Any) -> bool:
        found: bool = await look(*about)
        if not found:
            await sleep(LOOK_AGAIN_S)
        return found

    client._metadata_update = paused


def _broker(kafka: KafkaSettings, client_id: str, **options: Any) -> KafkaBroker:
    """A broker at the settings' address that injects and declares nothing."""
    return KafkaBroker(
        kafka.kafka_bootstrap.split(","),
        client_id=client_id,
        security=_security(kafka),
        apply_types=False,
        graceful_timeout=GRACEFUL_S,
        **options,
    )


def _security(kafka: KafkaSettings) -> BaseSecurity:
    """The settings' TLS and SASL, as FastStream wants them said. Raises ValueError that names the setting."""
    told = kafka.client("")
    context = told.get("ssl_context")
    if "sasl_mechanism" not in told:
        return BaseSecurity(ssl_context=context)
    if (mechanism := told["sasl_mechanism"]) == "GSSAPI":
        return SASLGSSAPI(ssl_context=context)
    if mechanism not in _PASSWORDS:
        raise ValueError(
            f"TURNSTILE_KAFKA_SASL_MECHANISM: {mechanism} is none of GSSAPI, {', '.join(_PASSWORDS)}"
        )
    kind = _PASSWORDS[mechanism]
    return kind(told["sasl_plain_username"], told["sasl_plain_password"], ssl_context=context)
