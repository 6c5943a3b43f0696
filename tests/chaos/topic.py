"""The events topic, read to its end once, keeping only what tells repeats from contradictions."""

from __future__ import annotations

import hashlib
from collections import defaultdict

import msgspec

from infra.clients.topics import read_topic
from tests.chaos.evidence import Published

_TOPIC = "turnstile.events.v1"


class _Place(msgspec.Struct):
    session_id: str
    seq: int


async def published(bootstrap: str, timeout: float = 60.0) -> dict[str, Published]:
    """Every session of the topic. Raises TimeoutError and what aiokafka raises."""
    bodies: dict[str, dict[int, set[bytes]]] = defaultdict(lambda: defaultdict(set))
    records: dict[str, int] = defaultdict(int)
    for value in [
        record.value for record in await read_topic(bootstrap, _TOPIC, timeout) if record.value
    ]:
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
