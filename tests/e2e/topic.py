"""What is on `turnstile.events.v1`, read with plain aiokafka; events in parts are put together."""

from __future__ import annotations

import asyncio
from collections import defaultdict
from typing import NamedTuple

import msgspec
from aiokafka import AIOKafkaConsumer

from shared.bus.parts import Joiner

TOPIC = "turnstile.events.v1"


class Place(msgspec.Struct, frozen=True):
    """Where an event belongs."""

    tenant_id: str
    session_id: str
    seq: int


class Record(NamedTuple):
    key: str
    value: bytes


async def published(bootstrap: str, timeout: float = 60.0) -> list[Record]:
    """Every record up to now, each partition's in order."""
    consumer = AIOKafkaConsumer(
        TOPIC,
        bootstrap_servers=bootstrap,
        auto_offset_reset="earliest",
        enable_auto_commit=False,
        isolation_level="read_committed",
    )
    found: list[Record] = []
    joiner = Joiner()
    async with asyncio.timeout(timeout), consumer:
        ends = await consumer.end_offsets(list(consumer.assignment()))
        left = {partition for partition, end in ends.items() if end}
        while left:
            batches = await consumer.getmany(timeout_ms=200)
            for records in batches.values():
                whole = [joined for r in records if (joined := joiner.join(r)) is not None]
                found += [Record((r.key or b"").decode(), r.value or b"") for r in whole]
            left = {one for one in left if await consumer.position(one) < ends[one]}
    return found


def assert_one_body_for_one_seq(records: list[Record]) -> int:
    """Each session counts 1, 2, 3 … and never has two bodies for one seq; how many came again."""
    bodies: dict[tuple[str, str], dict[int, bytes]] = defaultdict(dict)
    repeats = 0
    for record in records:
        place = msgspec.json.decode(record.value, type=Place)
        assert record.key == place.session_id
        session = bodies[place.tenant_id, place.session_id]
        repeats += place.seq in session
        first = session.setdefault(place.seq, record.value)
        assert first == record.value, f"{place}: {first!r} and {record.value!r}"
        assert place.seq - 1 in session or place.seq == 1, f"{place} came before its turn"
    return repeats
