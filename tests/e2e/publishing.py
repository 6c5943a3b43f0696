"""Publishes as another service does, and reads its dead letters, with plain aiokafka."""

from __future__ import annotations

import asyncio
import itertools
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

from aiokafka import AIOKafkaProducer

from infra.clients.topics import read_topic
from tests.e2e.waiting import PATIENCE_S

INPUTS, DEAD = "turnstile.inputs.v1", "turnstile.dead.v1"
_numbers = itertools.count(1)


@dataclass(slots=True)
class Sent:
    """A record for the inputs topic; a test spoils what it wants to see refused."""

    key: bytes | None
    value: bytes | None
    headers: dict[str, bytes] = field(default_factory=dict)


def now() -> str:
    """The time as a publisher writes it."""
    return datetime.now(UTC).isoformat()


def record(kind: str, tenant: str, session: str, **data: Any) -> Sent:
    """A good record: whatever the type needs besides tenant, session and time is in `data`."""
    at = now()
    headers = {
        "ce_specversion": "1.0",
        "ce_id": f"e2e-{next(_numbers)}-{at}",
        "ce_source": "/e2e",
        "ce_type": kind,
        "ce_time": at,
        "ce_subject": session,
        "content-type": "application/json",
    }
    value = {"tenant_id": tenant, "session_id": session, "at": at, **data}
    encoded = {name: text.encode() for name, text in headers.items()}
    return Sent(session.encode(), json.dumps(value).encode(), encoded)


def turn(tenant: str, session: str, turn_id: str, content: Any, **more: Any) -> Sent:
    """A good `turn.requested`."""
    data = {"user_id": "u1", "turn_id": turn_id, "content": content, **more}
    return record("turn.requested", tenant, session, **data)


class Publisher:
    """A service of its own beside the gateway."""

    def __init__(self, producer: AIOKafkaProducer) -> None:
        self._producer = producer

    async def publish(self, sent: Sent) -> str:
        """Publish the record; returns `topic/partition/offset` once the log has it."""
        acknowledged = self._producer.send_and_wait(
            INPUTS, key=sent.key, value=sent.value, headers=list(sent.headers.items())
        )
        where = await asyncio.wait_for(acknowledged, PATIENCE_S)
        return f"{where.topic}/{where.partition}/{where.offset}"


@asynccontextmanager
async def publishing(bootstrap: str) -> AsyncIterator[Publisher]:
    producer = AIOKafkaProducer(
        bootstrap_servers=bootstrap, acks="all", enable_idempotence=True, max_request_size=2**23
    )
    await producer.start()
    try:
        yield Publisher(producer)
    finally:
        await producer.stop()


@dataclass(frozen=True, slots=True)
class Dead:
    """A dead letter: the record as it came, and why it died (`reason`, `detail`, … without `dead_`)."""

    key: bytes | None
    value: bytes | None
    headers: dict[str, bytes]
    marks: dict[str, str]


async def dead_letters(bootstrap: str) -> list[Dead]:
    """All dead letters there are now, oldest first in each partition."""
    return [_dead(message) for message in await read_topic(bootstrap, DEAD, PATIENCE_S)]


def _dead(message: Any) -> Dead:
    headers = dict(message.headers)
    marks = {name: headers.pop(name).decode() for name in list(headers) if name.startswith("dead_")}
    plain = {name.removeprefix("dead_"): text for name, text in marks.items()}
    return Dead(message.key, message.value, headers, plain)
