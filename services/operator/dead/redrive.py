"""Sends a dead letter again, or drops it for good; or all letters of a session that was erased.

First the record is sent and acknowledged, then the letter is marked as settled. A crash in between leaves it open,
and the next redrive sends it again: its `ce_id`, or its turn's id, is the same, so the inbox takes it in once.

A turn that failed stays failed. What was asked for is asked again as another turn of the session, behind those that
wait there: its id says which turn it repeats and which letter it comes from (`t1:again-3-141`).
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from datetime import datetime
from typing import Any, Literal

import msgspec
from aiokafka.structs import ConsumerRecord
from msgspec import Struct

from services.operator.dead.letter import CUT, MARKS, PARKED, SETTLED, SETTLED_OFFSET, DeadLetter
from services.operator.dead.letters import records
from services.operator.kafka_clients import producing
from shared.bus.envelope import OPERATOR, Envelope, Headers, erasure_mark
from shared.bus.topics import DEAD, INPUTS
from shared.moment import rfc3339
from shared.session.inputs import TurnDropped
from shared.session.key import SessionKey
from shared.session.turn_ends import TURN_FAILED

Fate = Literal["redriven", "dropped"]
_AGAIN = ":again-"
_LONGEST_ID = 128  # of a turn, see docs/publishers.md


class _Turn(Struct):
    tenant_id: str
    session_id: str
    turn_id: str


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
    async with records(bootstrap, options) as read, producing(bootstrap, options) as producer:
        for letter in letters:
            record = await read(letter.partition, letter.offset)
            value, headers = sent_again(letter, record)
            await producer.send_and_wait(INPUTS.name, value, record.key, headers=headers)
            await _mark(producer, letter, "redriven", now)


async def drop(
    bootstrap: str, options: Mapping[str, Any], letters: Sequence[DeadLetter], now: datetime
) -> None:
    """Mark the letters as dropped: they stay readable until the topic's retention ends. The wait of a session for
    one is ended first. Raises KafkaError or Impossible."""
    async with records(bootstrap, options) as read, producing(bootstrap, options) as producer:
        for letter in letters:
            if letter.header(PARKED):
                record = await read(letter.partition, letter.offset)
                value, headers = _dropped(letter, record.value or b"", now)
                await producer.send_and_wait(INPUTS.name, value, record.key, headers=headers)
            await _mark(producer, letter, "dropped", now)


async def mark_erased(
    bootstrap: str,
    options: Mapping[str, Any],
    sessions: Collection[SessionKey],
    now: datetime,
) -> None:
    """Mark all letters of these sessions (tenant, id) as nobody's to read or redrive. Raises KafkaError."""
    async with producing(bootstrap, options) as producer:
        for tenant, session in sessions:
            headers = erasure_mark(tenant, rfc3339(now))
            await producer.send_and_wait(DEAD.name, None, session.encode(), headers=headers)


def _dropped(letter: DeadLetter, value: bytes, now: datetime) -> tuple[bytes, Headers]:
    """The input that ends the wait for a parked turn. A repeat has the same id."""
    turn = msgspec.json.decode(value, type=_Turn)
    at = rfc3339(now)
    envelope = Envelope(
        id=f"dropped:{letter.place}",
        source=OPERATOR,
        type="turn.dropped",
        time=at,
        subject=turn.session_id,
    )
    request = TurnDropped(
        tenant_id=turn.tenant_id, session_id=turn.session_id, turn_id=turn.turn_id, at=at
    )
    return msgspec.json.encode(request), envelope.headers()


def sent_again(
    letter: DeadLetter, record: ConsumerRecord[Any, Any]
) -> tuple[bytes | None, Headers]:
    """Value and headers of the record that a letter is redriven as."""
    headers = as_it_came(record)
    if letter.reason != TURN_FAILED or not record.value:
        return record.value, headers
    asked: dict[str, Any] = msgspec.json.decode(record.value)
    asked |= {"turn_id": another_turn(asked["turn_id"], letter), "on_busy": "enqueue"}
    rest = [(name, value) for name, value in headers if name != "ce_id"]
    return msgspec.json.encode(asked), [*rest, ("ce_id", f"redriven:{letter.place}".encode())]


def another_turn(turn_id: str, letter: DeadLetter) -> str:
    """The id of the turn that a failed one is asked again as; a repeat of a repeat is one of the first."""
    suffix = f"{_AGAIN}{letter.partition}-{letter.offset}"
    return turn_id.split(_AGAIN)[0][: _LONGEST_ID - len(suffix)] + suffix


def as_it_came(record: ConsumerRecord[Any, Any]) -> Headers:
    """The headers of the record before it died."""
    ours = {*MARKS, CUT, PARKED}
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
