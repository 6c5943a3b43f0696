"""The events topic, read for audits without a consumer group."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Mapping
from typing import Any

import msgspec
from aiokafka import TopicPartition
from aiokafka.structs import ConsumerRecord
from msgspec import Struct

from services.operator.kafka_clients import reading
from shared.bus.parts import Joiner
from shared.bus.topics import EVENTS, MAX_MESSAGE_BYTES
from shared.kafka import up_to
from shared.session.key import SessionKey

STALLED_S = 30.0
SCAN_TIMEOUT_S = 600.0


class _Event(Struct):
    tenant_id: str
    session_id: str
    seq: int


_event = msgspec.json.Decoder(_Event)


async def events(
    bootstrap: str, options: Mapping[str, Any], wanted: Mapping[SessionKey, set[int]]
) -> AsyncIterator[tuple[SessionKey, int, bytes]]:
    """Session, seq and value of each wanted event, as the log has it, once. Reads the topic from its beginning to
    where it ended at the start. Raises Impossible, KafkaError, TimeoutError after ten minutes."""
    left = {key: set(seqs) for key, seqs in wanted.items()}
    names, joiner = {session.encode() for _, session in wanted}, Joiner()
    how = {"auto_offset_reset": "earliest", "max_partition_fetch_bytes": MAX_MESSAGE_BYTES}
    async with reading(EVENTS.name, bootstrap, options, **how) as consumer:
        async with asyncio.timeout(SCAN_TIMEOUT_S):
            async for record in _whole(consumer):
                whole = joiner.join(record) if record.key in names else None
                value = (whole.value or b"") if whole else b""
                if (event := _read(value)) is None:
                    continue
                key = (event.tenant_id, event.session_id)
                if event.seq in left.get(key, ()):
                    left[key].discard(event.seq)
                    yield key, event.seq, value


def _read(value: bytes) -> _Event | None:
    try:
        return _event.decode(value)
    except (msgspec.DecodeError, UnicodeDecodeError):
        return None


async def _whole(consumer: Any) -> AsyncIterator[ConsumerRecord[Any, Any]]:
    places: list[TopicPartition] = list(consumer.assignment())
    first = await consumer.beginning_offsets(places)
    ends = await consumer.end_offsets(places)
    for place in places:
        consumer.seek(place, first[place])
    async for record in up_to(consumer, ends, stalled=STALLED_S):
        yield record
