"""How does a dead letter go back to where it died, once? And how is one put aside for good?

First the record is sent and acknowledged, then the letter is marked as settled. A crash in between leaves it open,
and the next redrive sends it again: its `ce_id`, or its turn's id, is the same, so the inbox takes it in once.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any, Literal

from aiokafka import AIOKafkaProducer
from aiokafka.structs import ConsumerRecord

from services.operator.dead_letter import CUT, MARKS, SETTLED, SETTLED_OFFSET, DeadLetter
from services.operator.dead_letters import records
from shared.bus.envelope import Headers
from shared.bus.topics import DEAD, INPUTS, MAX_MESSAGE_BYTES
from shared.moment import rfc3339

Fate = Literal["redriven", "dropped"]
# aiokafka's producer has no types.
_open: Any = AIOKafkaProducer
REQUEST_TIMEOUT_MS = 30_000


def hindrance(letter: DeadLetter) -> str | None:
    """Why this letter can't be redriven; None when it can."""
    if letter.header(CUT):
        return "its value was too large for a letter; the record is at " + letter.header(
            "dead_source"
        )
    # Requests that a session refused were filed by then; their source is the inbox.
    if letter.topic != INPUTS.name and not letter.header("dead_source").startswith("inbox/"):
        return f"it died on {letter.topic or 'no topic'}: only inputs are redriven"
    return None


async def redrive(
    bootstrap: str, options: Mapping[str, Any], letters: Sequence[DeadLetter], now: datetime
) -> None:
    """Send each letter's record to turnstile.inputs.v1 again, in the order given, and mark it. Raises KafkaError
    or Impossible; the letters before the one it failed at are done by then."""
    async with records(bootstrap, options) as read:
        producer = await _producer(bootstrap, options)
        try:
            for letter in letters:
                record = await read(letter.partition, letter.offset)
                await producer.send_and_wait(
                    INPUTS.name, record.value, record.key, headers=as_it_came(record)
                )
                await _mark(producer, letter, "redriven", now)
        finally:
            await producer.stop()


async def drop(
    bootstrap: str, options: Mapping[str, Any], letters: Sequence[DeadLetter], now: datetime
) -> None:
    """Mark the letters as dropped: they stay readable until the topic's retention ends. Raises KafkaError."""
    producer = await _producer(bootstrap, options)
    try:
        for letter in letters:
            await _mark(producer, letter, "dropped", now)
    finally:
        await producer.stop()


def as_it_came(record: ConsumerRecord[Any, Any]) -> Headers:
    """The headers of the record before it died."""
    ours = {*MARKS, CUT}
    return [(name, value) for name, value in record.headers if name not in ours]


async def _mark(producer: Any, letter: DeadLetter, fate: Fate, now: datetime) -> None:
    headers = [
        (SETTLED, fate.encode()),
        (SETTLED_OFFSET, str(letter.offset).encode()),
        ("dead_at", rfc3339(now).encode()),
    ]
    await producer.send_and_wait(
        DEAD.name, None, letter.key.encode(), partition=letter.partition, headers=headers
    )


async def _producer(bootstrap: str, options: Mapping[str, Any]) -> Any:
    producer = _open(
        bootstrap_servers=bootstrap,
        acks="all",
        enable_idempotence=True,
        max_request_size=MAX_MESSAGE_BYTES,
        request_timeout_ms=REQUEST_TIMEOUT_MS,
        **options,
    )
    try:
        await producer.start()
    except BaseException:
        await producer.stop()
        raise
    return producer
