"""Publishes bad records to turnstile.dead.v1, as they came, with the reason."""

from __future__ import annotations

from collections.abc import Sequence

from aiokafka.errors import MessageSizeTooLargeError

from services.recorder.batch import Letter
from services.recorder.ports import Out, Record
from shared import logs, metrics
from shared.bus.envelope import Headers, dead_letter
from shared.bus.topics import DEAD
from shared.clock import Clock
from shared.dead_span import dead_span
from shared.moment import rfc3339

log = logs.get("recorder")


class DeadLetters:
    """Sends letters, each acknowledged before the next."""

    def __init__(self, producer: Out, clock: Clock) -> None:
        self._producer = producer
        self._clock = clock

    async def send(self, letters: Sequence[Letter]) -> None:
        """Send all of them. Raises KafkaError when Kafka does not take one; sent again, they come twice."""
        for letter in letters:
            await self._send(letter)
            metrics.inc(
                "turnstile_dead_letters_total", topic=letter.record.topic, reason=letter.reason
            )
            log.warning(
                "dead letter", reason=letter.reason, source=source(letter), detail=_safe(letter)
            )

    async def _send(self, letter: Letter) -> None:
        headers = self._headers(letter)
        with dead_span(headers, letter.reason):
            await self._send_whole(letter.record, headers)

    async def _send_whole(self, record: Record, headers: Headers) -> None:
        try:
            await self._producer.send_and_wait(
                DEAD.name, value=record.value, key=record.key, headers=headers
            )
        except MessageSizeTooLargeError:
            # The marks made it larger than a message may be; the place it came from still has it.
            headers.append(("dead_value_bytes", str(len(record.value or b"")).encode()))
            await self._producer.send_and_wait(
                DEAD.name, value=None, key=record.key, headers=headers
            )

    def _headers(self, letter: Letter) -> Headers:
        return dead_letter(
            letter.record.headers,
            reason=letter.reason,
            detail=letter.detail,
            attempts=1,
            at=rfc3339(self._clock()),
            source=source(letter),
        )


def source(letter: Letter) -> str:
    """`topic/partition/offset`."""
    return f"{letter.record.topic}/{letter.record.partition}/{letter.record.offset}"


def _safe(letter: Letter) -> str | None:
    """ClickHouse quotes the row it refuses, and a row is what somebody said: that stays in the letter."""
    return None if letter.reason == "refused_by_clickhouse" else letter.detail
