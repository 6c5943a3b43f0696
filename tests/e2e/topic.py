"""What is on `turnstile.events.v1`; events in parts are put together."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping
from typing import Any, NamedTuple

import msgspec

from infra.clients.topics import read_topic
from shared.bus.parts import Joiner
from shared.session.key import SessionKey

TOPIC = "turnstile.events.v1"


class Place(msgspec.Struct, frozen=True):
    """Where an event belongs."""

    tenant_id: str
    session_id: str
    seq: int


class Record(NamedTuple):
    key: str
    value: bytes
    headers: Mapping[str, str] = {}


async def published(bootstrap: str, timeout: float = 60.0) -> list[Record]:
    """Every event up to now, each partition's in order."""
    joiner = Joiner()
    whole = [joiner.join(record) for record in await read_topic(bootstrap, TOPIC, timeout)]
    return [_record(one) for one in whole if one is not None]


def _record(found: Any) -> Record:
    headers = {name: value.decode() for name, value in found.headers}
    return Record((found.key or b"").decode(), found.value or b"", headers)


async def headers_of_events(bootstrap: str, session_id: str) -> list[Mapping[str, str]]:
    """The headers of a session's events up to now."""
    return [one.headers for one in await published(bootstrap) if one.key == session_id]


def assert_one_body_for_one_seq(records: list[Record]) -> int:
    """Each session counts 1, 2, 3 … and never has two bodies for one seq; how many came again."""
    bodies: dict[SessionKey, dict[int, bytes]] = defaultdict(dict)
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
