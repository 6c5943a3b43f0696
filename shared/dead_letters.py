"""Dead letters on Kafka: many under way at once, all acknowledged before the offsets of what died are committed.

Every one is counted, by reason and by who published it. Of those that died for one reason by one publisher's hand
the first few in ten seconds have a log line and a span each; of the rest a batch has one span that counts them, so
that a publisher that writes nothing but rubbish fills neither the log nor the trace store.
"""

from __future__ import annotations

import asyncio
import re
import time
from collections import Counter
from collections.abc import Awaitable, Callable, Sequence
from datetime import datetime
from typing import Protocol

from aiokafka.errors import (
    KafkaError,
    MessageSizeTooLargeError,
    OutOfOrderSequenceNumber,
    ProducerClosed,
    ProducerFenced,
)
from msgspec import Struct
from msgspec.structs import replace

from shared import logs, metrics, telemetry
from shared.bus.envelope import (
    AGENT_WORKER,
    GATEWAY,
    OPERATOR,
    Headers,
    source_of,
    traceparent_of,
)
from shared.bus.topics import DEAD
from shared.clock import Clock
from shared.logs import Flood
from shared.telemetry import SpanKind

RETRY_S = 1.0
# Seconds without an acknowledgement after which the wait is mentioned.
PATIENCE_S = 30.0
# Of one reason and publisher, told one by one in ten seconds.
TOLD_EACH = 20
# Publishers that a process counts under their own name.
MOST_SOURCES = 16
# What no later try mends: only a new process has a new producer.
BROKEN = (OutOfOrderSequenceNumber, ProducerClosed, ProducerFenced)
_LABEL = re.compile(r"[A-Za-z0-9._:/-]{1,64}")
_OURS = {GATEWAY: "gateway", AGENT_WORKER: "agent-worker", OPERATOR: "operator"}
log = logs.get(__name__)


class Letter(Struct, frozen=True):
    """A record that can't be used: `headers` are those of its letter (`shared.bus.envelope.dead_letter`), `topic`
    is where it died, `place` that with partition and offset, `said` the reason in words that a log line may
    have."""

    key: bytes | None
    value: bytes | None
    headers: Headers
    reason: str
    topic: str
    place: str
    said: str | None = None


class Sources:
    """Who published a record, as a metric's label: the first MOST_SOURCES by name, the others as `other`."""

    def __init__(self, most: int = MOST_SOURCES) -> None:
        self._most = most
        self._known: set[str] = set()

    def label(self, headers: Headers) -> str:
        """`gateway`, `agent-worker`, `operator`, `none` without a `ce_source`, a publisher's own, or `other`."""
        source = source_of(headers)
        for ours, name in _OURS.items():
            if f"{source}/".lstrip("/").startswith(f"{ours}/".lstrip("/")):
                return name
        if not source:
            return "none"
        if source not in self._known:
            if len(self._known) >= self._most or _LABEL.fullmatch(source) is None:
                return "other"
            self._known.add(source)
        return source


class Producer(Protocol):
    """The part of a started `shared.stream.Publishing` that is used."""

    async def send(
        self, topic: str, *, value: bytes | None, key: bytes | None, headers: Headers
    ) -> Awaitable[object]: ...


class DeadLetters:
    """Puts letters on turnstile.dead.v1 through a started, idempotent producer, which the caller stops."""

    def __init__(
        self,
        producer: Producer,
        clock: Clock,
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        self._producer = producer
        self._clock = clock
        self._sources = Sources()
        self._flood = Flood(TOLD_EACH, clock=monotonic)

    async def put(self, letters: Sequence[Letter]) -> None:
        """Returns once the log has all of them, however long it is away. One whose acknowledgement was lost may be
        there twice; one that its marks make larger than a message goes without its value, then without the rest:
        `dead_source` names the record. Raises KafkaError when the producer can never send again."""
        left = list(letters)
        # A loop of its own (see shared.retry): what the log has is not sent again.
        while left:
            left = await self._send(left)
            if left:
                await asyncio.sleep(RETRY_S)

    async def _send(self, letters: Sequence[Letter]) -> list[Letter]:
        """Send what can be sent; the letters to be sent again, in their order."""
        began = self._clock()
        sent: list[tuple[Letter, asyncio.Future[object]]] = []
        outcomes: list[tuple[Letter, BaseException | None]] = []
        for letter in letters:
            try:
                future = await self._producer.send(
                    DEAD.name, key=letter.key, value=letter.value, headers=letter.headers
                )
            except KafkaError as error:
                outcomes.append((letter, error))
                if not isinstance(error, MessageSizeTooLargeError):
                    break
            else:
                sent.append((letter, asyncio.ensure_future(future)))
        await _acknowledged([future for _, future in sent])
        outcomes += [(letter, future.exception()) for letter, future in sent]
        self._tell([letter for letter, error in outcomes if error is None], began)
        failed = {id(letter): error for letter, error in outcomes if error is not None}
        tried = {id(letter) for letter, _ in outcomes}
        return [
            _again(letter, failed.get(id(letter)))
            for letter in letters
            if id(letter) in failed or id(letter) not in tried
        ]

    def _tell(self, letters: Sequence[Letter], began: datetime) -> None:
        untold: Counter[tuple[str, str]] = Counter()
        for letter in letters:
            source = self._sources.label(letter.headers)
            kind = (letter.reason, source)
            metrics.inc("turnstile_dead_letters_total", topic=letter.topic, reason=letter.reason)
            metrics.inc("turnstile_dead_letters_by_source_total", source=source)
            left_out = self._flood.passes(kind)
            if left_out is None:
                untold[kind] += 1
                metrics.inc("turnstile_log_lines_suppressed_total")
                continue
            more = {"detail": letter.said, "left_out_before": left_out}
            log.warning(
                "dead_letter",
                reason=letter.reason,
                source=letter.place,
                publisher=source,
                **{name: value for name, value in more.items() if value},
            )
            self._span(began, letter.reason, source, 1, traceparent_of(letter.headers))
        for (reason, source), count in untold.items():
            self._span(began, reason, source, count, "")

    def _span(self, began: datetime, reason: str, source: str, count: int, parent: str) -> None:
        """In the trace of the record that died; one that carried none begins one, and so do many together."""
        telemetry.record(
            "send turnstile.dead.v1",
            parent=parent,
            start=began,
            end=self._clock(),
            kind=SpanKind.PRODUCER,
            attributes={
                "messaging.system": "kafka",
                "messaging.operation.name": "send",
                "messaging.destination.name": DEAD.name,
                "messaging.batch.message_count": count,
                "turnstile.dead.reason": reason,
                "turnstile.dead.publisher": source,
            },
        )


async def _acknowledged(futures: Sequence[asyncio.Future[object]]) -> None:
    """Wait until each is decided. An idempotent producer tries until then; to give one up and send it again would
    put it there twice."""
    waiting = set(futures)
    while waiting:
        _, waiting = await asyncio.wait(waiting, timeout=PATIENCE_S)
        if waiting:
            log.warning("dead_letters_not_acknowledged_yet", letters=len(waiting))


def _again(letter: Letter, error: BaseException | None) -> Letter:
    """What is sent next in place of a letter that was not taken. Raises what no try mends."""
    if error is None:
        return letter
    if isinstance(error, MessageSizeTooLargeError):
        return _smaller(letter)
    if isinstance(error, BROKEN) or not isinstance(error, KafkaError):
        raise error
    log.warning("dead_letter_not_written", error=type(error).__name__)
    return letter


def _smaller(letter: Letter) -> Letter:
    if letter.value is not None:
        size = str(len(letter.value)).encode()
        return replace(letter, value=None, headers=[*letter.headers, ("dead_value_bytes", size)])
    marks = [(name, value) for name, value in letter.headers if name.startswith("dead_")]
    return replace(letter, key=None, headers=marks)
