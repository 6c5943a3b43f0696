"""Publisher on Kafka: events with acks=all from an idempotent producer, previews coalesced and best effort."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Iterator, Sequence
from hashlib import sha256

import msgspec
from aiokafka.errors import KafkaError, KafkaTimeoutError, MessageSizeTooLargeError

from services.agent_worker.adapters.previews import Previews
from shared import logs, metrics
from shared.bus import topics
from shared.bus.envelope import AGENT_WORKER, MAX_ID, Envelope, Headers, dead_letter
from shared.bus.parts import split
from shared.clock import Clock
from shared.dead_letters import DeadLetters, Letter
from shared.moment import rfc3339
from shared.session.commands import DeadLetter
from shared.session.events import Event
from shared.session.inputs import REQUESTS, Filed
from shared.session.key import SessionKey
from shared.session.state import SessionState
from shared.stream import Publishing

FIRST_WAIT, LONGEST_WAIT = 0.2, 1.0
# Seconds without an acknowledgement after which the wait is mentioned.
PATIENCE = 30.0
# The place of an event among those to be said, and one of the records that carry it.
Sent = tuple[int, asyncio.Future[object]]
log = logs.get(__name__)


class BrokenProducer(RuntimeError):
    """The producer can never send again: the process must be started again."""


class NoRoom(KafkaError):
    """The producer's buffer of a partition stayed full for as long as a request may take: nothing was taken of it,
    so it may be said again."""

    retriable = True


class KafkaPublisher:
    """The Publisher port on a started producer; the caller stops it. Previews need `previews` running."""

    def __init__(
        self,
        producer: Publishing,
        previews: Previews,
        clock: Clock,
        letters: DeadLetters | None = None,
    ) -> None:
        self._producer = producer
        self._letters = letters or DeadLetters(producer, clock)
        self._previews = previews
        self._clock = clock
        self._beyond_repair = asyncio.Event()

    async def say(self, events: Sequence[Event], parent_of: Callable[[Event], str]) -> None:
        """See Publisher.say. While the log is away it tries for ever: the row holds what was not said. Raises
        KafkaError when the producer is beyond repair (see `broken`), or when the topic takes less in one message
        than `shared.bus.topics` says."""
        # A loop of its own (see shared.retry): what the log has is not sent again.
        wait, began = FIRST_WAIT, time.perf_counter()
        left = list(events)
        while left:
            said, error = await self._send_all(left, parent_of)
            metrics.inc("turnstile_events_published_total", said)
            left = left[said:]
            if error is not None:
                self._judge(error)
                log.warning("events_not_said", error=type(error).__name__, events=len(left))
                await asyncio.sleep(wait)
                wait = min(wait * 2, LONGEST_WAIT)
        seconds = time.perf_counter() - began
        metrics.observe("turnstile_publish_seconds", seconds, topic=topics.EVENTS.name)

    async def broken(self) -> None:
        """Wait until the producer can never send again, then raise: only a new process has a new producer."""
        await self._beyond_repair.wait()
        raise BrokenProducer("the log refused the producer's sequence; a new process starts anew")

    def _judge(self, error: KafkaError) -> None:
        """Raise what no other try mends. A message too large: see docs/operations.md on max.message.bytes."""
        if isinstance(error, MessageSizeTooLargeError):
            raise error
        if not error.retriable:
            self._beyond_repair.set()
            raise error

    async def _send_all(
        self, events: Sequence[Event], parent_of: Callable[[Event], str]
    ) -> tuple[int, KafkaError | None]:
        """How many of `events`, from the first on, the log has, and what became of the next one.

        An idempotent producer tries a batch until it is acknowledged; giving up on one that is under way and
        sending it again would put it into the log twice, so this waits for as long as it takes.
        """
        sent: list[Sent] = []
        place = 0
        try:
            for place, event in enumerate(events):
                for value, headers in _records(event, parent_of(event)):
                    # Known one by one: a failure must not forget those under way.
                    future = await self._producer.send(
                        topics.EVENTS.name,
                        key=event.session_id.encode(),
                        value=value,
                        headers=headers,
                    )
                    sent.append((place, future))
        except KafkaTimeoutError:
            return await self._acknowledged(sent) or (place, NoRoom())
        except KafkaError as error:
            return await self._acknowledged(sent) or (place, error)
        return await self._acknowledged(sent) or (len(events), None)

    async def _acknowledged(self, sent: Sequence[Sent]) -> tuple[int, KafkaError] | None:
        """Wait for all of them: the event of the first that failed and why, or None."""
        waiting = {future for _, future in sent}
        while waiting:
            _, waiting = await asyncio.wait(waiting, timeout=PATIENCE)
            if waiting:
                log.warning("events_not_acknowledged_yet", records=len(waiting))
        for place, future in sent:
            if isinstance(error := future.exception(), KafkaError):
                return place, error
            future.result()
        return None

    def preview(self, state: SessionState, raw: bytes, turn_id: str | None) -> None:
        """See Publisher.preview."""
        self._previews.add((state.tenant_id, state.session_id), turn_id, raw)

    async def bury(self, key: SessionKey, filed: Filed, why: DeadLetter) -> None:
        """See Publisher.bury. The letter carries the request as it was filed."""
        place = f"inbox/{key[0]}/{filed.input_id}"
        kind = next(kind for kind, shape in REQUESTS.items() if type(filed.request) is shape)
        envelope = Envelope(
            id=_letter_id(filed.input_id),
            source=AGENT_WORKER,
            type=kind,
            time=rfc3339(self._clock()),
            subject=key[1],
            traceparent=filed.traceparent,
        )
        headers = dead_letter(
            envelope.headers(),
            reason=why.reason,
            detail=why.detail,
            attempts=why.attempts,
            at=envelope.time,
            source=place,
        )
        letter = Letter(
            key=key[1].encode(),
            value=msgspec.json.encode(filed.request),
            headers=headers,
            reason=why.reason,
            topic=topics.INPUTS.name,
            place=place,
        )
        await self._letters.put([letter])


def _letter_id(input_id: str) -> str:
    """The `ce_id` of the letter of an input that a session refused: redriven, it is another input of ours."""
    if len(input_id) <= MAX_ID - 56:  # it grows with every such death
        return input_id
    return f"refused:{sha256(input_id.encode()).hexdigest()[:32]}"


def _records(event: Event, traceparent: str) -> Iterator[tuple[bytes, Headers]]:
    """Value and headers of each record that carries the event."""
    return split(msgspec.json.encode(event), _envelope(event, traceparent).headers(), event.seq)


def _envelope(event: Event, traceparent: str) -> Envelope:
    return Envelope(
        id=event.event_id,
        source=f"{AGENT_WORKER}/{event.tenant_id}",
        type=event.type,
        time=event.at,
        subject=event.session_id,
        traceparent=traceparent,
    )
