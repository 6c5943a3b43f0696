"""Publisher on Kafka: events with acks=all from an idempotent producer, previews coalesced and best effort."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence

import msgspec
from aiokafka import AIOKafkaProducer
from aiokafka.errors import KafkaError, MessageSizeTooLargeError

from services.agent_worker.adapters.previews import Previews
from services.agent_worker.ports import Key
from shared import logs, metrics
from shared.bus import topics
from shared.bus.envelope import Envelope, Headers, dead_letter
from shared.clock import Clock
from shared.moment import rfc3339
from shared.session.events import Event
from shared.session.inputs import REQUESTS, Filed
from shared.session.state import SessionState

SOURCE = "/turnstile/agent-worker"
FIRST_WAIT, LONGEST_WAIT = 0.2, 5.0
log = logs.get(__name__)


class KafkaPublisher:
    """The Publisher port on a started producer; the caller stops it. Previews need `previews` running."""

    def __init__(self, producer: AIOKafkaProducer, previews: Previews, clock: Clock) -> None:
        self._producer = producer
        self._previews = previews
        self._clock = clock

    async def say(self, events: Sequence[Event], parent_of: Callable[[Event], str]) -> None:
        """See Publisher.say. While the log is away it tries for ever: the row holds what was not said."""
        wait = FIRST_WAIT
        while events:
            try:
                await self._send_all(events, parent_of)
                metrics.inc("turnstile_events_published_total", len(events))
                return
            except MessageSizeTooLargeError:
                raise  # trying again is useless; see docs/operations.md on max.message.bytes
            except (KafkaError, TimeoutError) as error:
                log.warning("events_not_said", error=type(error).__name__, events=len(events))
                await asyncio.sleep(wait)
                wait = min(wait * 2, LONGEST_WAIT)

    async def _send_all(self, events: Sequence[Event], parent_of: Callable[[Event], str]) -> None:
        acknowledged = [
            await self._producer.send(
                topics.EVENTS.name,
                key=event.session_id.encode(),
                value=msgspec.json.encode(event),
                headers=_envelope(event, parent_of(event)).headers(),
            )
            for event in events
        ]
        await asyncio.wait_for(asyncio.gather(*acknowledged), 30.0)

    def preview(self, state: SessionState, raw: bytes, turn_id: str | None) -> None:
        """See Publisher.preview."""
        self._previews.add((state.tenant_id, state.session_id), turn_id, raw)

    async def bury(self, key: Key, filed: Filed, reason: str, detail: str) -> None:
        """See Publisher.bury. The letter carries the request as it was filed."""
        kind = next(kind for kind, shape in REQUESTS.items() if type(filed.request) is shape)
        envelope = Envelope(
            id=filed.input_id,
            source=SOURCE,
            type=kind,
            time=rfc3339(self._clock()),
            subject=key[1],
            traceparent=filed.traceparent,
        )
        await bury(
            self._producer,
            key=key[1].encode(),
            value=msgspec.json.encode(filed.request),
            headers=dead_letter(
                envelope.headers(),
                reason=reason,
                detail=detail,
                attempts=1,
                at=envelope.time,
                source=f"inbox/{key[0]}/{filed.input_id}",
            ),
            reason=reason,
        )


async def bury(
    producer: AIOKafkaProducer,
    *,
    key: bytes | None,
    value: bytes | None,
    headers: Headers,
    reason: str,
) -> None:
    """Put a record into the dead letters; returns once the log has it. Raises KafkaError or TimeoutError."""
    sent = producer.send_and_wait(topics.DEAD.name, key=key, value=value, headers=headers)
    await asyncio.wait_for(sent, 30.0)
    metrics.inc("turnstile_dead_letters_total", topic=topics.INPUTS.name, reason=reason)


def _envelope(event: Event, traceparent: str) -> Envelope:
    return Envelope(
        id=event.event_id,
        source=f"{SOURCE}/{event.tenant_id}",
        type=event.type,
        time=event.at,
        subject=event.session_id,
        traceparent=traceparent,
    )
