"""Publishes bad records to turnstile.dead.v1, as they came, with the reason."""

from __future__ import annotations

from collections.abc import Sequence

from services.recorder.batch import Letter
from shared import dead_letters as letters
from shared.bus.envelope import dead_letter
from shared.clock import Clock
from shared.moment import rfc3339


class DeadLetters:
    """Sends letters, many under way at once."""

    def __init__(self, letters: letters.DeadLetters, clock: Clock) -> None:
        self._letters = letters
        self._clock = clock

    async def send(self, found: Sequence[Letter]) -> None:
        """Send all of them, however long the log is away; sent again, they come twice. Raises KafkaError when the
        producer can never send again."""
        at = rfc3339(self._clock())
        await self._letters.put([_letter(one, at) for one in found])


def source(letter: Letter) -> str:
    """`topic/partition/offset`."""
    return f"{letter.record.topic}/{letter.record.partition}/{letter.record.offset}"


def _letter(letter: Letter, at: str) -> letters.Letter:
    record, place = letter.record, source(letter)
    headers = dead_letter(
        record.headers,
        reason=letter.reason,
        detail=letter.detail,
        attempts=1,
        at=at,
        source=place,
    )
    # ClickHouse quotes the row it refuses, and a row is what somebody said: that stays in the letter.
    said = None if letter.reason == "refused_by_clickhouse" else letter.detail
    return letters.Letter(
        key=record.key,
        value=record.value,
        headers=headers,
        reason=letter.reason,
        topic=record.topic,
        place=place,
        said=said,
    )
