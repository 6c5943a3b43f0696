"""The events topic, read to its end once, keeping only what tells repeats from contradictions."""

from __future__ import annotations

import asyncio
import hashlib
from collections import defaultdict

import msgspec
from aiokafka import AIOKafkaConsumer

from tests.chaos.evidence import Published

_TOPIC = "turnstile.events.v1"


class _Place(msgspec.Struct):
    session_id: str
    seq: int


async def published(bootstrap: str, timeout: float = 60.0) -> dict[str, Published]:
    """Every session of the topic. Raises TimeoutError and what aiokafka raises."""
    bodies: dict[str, dict[int, set[bytes]]] = defaultdict(lambda: defaultdict(set))
    records: dict[str, int] = defaultdict(int)
    async with asyncio.timeout(timeout):
        for value in await _read(bootstrap):
            place = msgspec.json.decode(value, type=_Place)
            bodies[place.session_id][place.seq].add(hashlib.sha256(value).digest())
            records[place.session_id] += 1
    return {
        session: Published(
            last_seq=max(seqs),
            two_bodies=tuple(seq for seq, seen in seqs.items() if len(seen) > 1),
            repeats=records[session] - len(seqs),
        )
        for session, seqs in bodies.items()
    }


async def _read(bootstrap: str) -> list[bytes]:
    consumer = AIOKafkaConsumer(
        _TOPIC,
        bootstrap_servers=bootstrap,
        auto_offset_reset="earliest",
        enable_auto_commit=False,
        isolation_level="read_committed",
    )
    found: list[bytes] = []
    async with consumer:
        ends = await consumer.end_offsets(list(consumer.assignment()))
        left = {partition for partition, end in ends.items() if end}
        while left:
            for records in (await consumer.getmany(timeout_ms=200)).values():
                found += [record.value for record in records if record.value]
            left = {one for one in left if await consumer.position(one) < ends[one]}
    return found
