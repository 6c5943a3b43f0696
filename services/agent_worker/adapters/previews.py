"""Token deltas on their way to `turnstile.previews.v1`: coalesced per message for up to 30 ms, never waited for.

The data of a preview is the provider's own `event_start` or `event_delta`, neighbouring texts of one block joined,
so that what reads the provider's stream reads ours. Previews may be lost and are never archived.
"""

from __future__ import annotations

import asyncio
from typing import Any

import msgspec
from aiokafka import AIOKafkaProducer
from msgspec import Struct

from shared import metrics
from shared.bus import topics
from shared.bus.envelope import AGENT_WORKER, Envelope
from shared.clock import Clock
from shared.moment import rfc3339

COALESCE_SECONDS = 0.03
# Messages with text waiting at once; beyond it new ones are dropped: a preview is only worth something now.
MAX_WAITING = 10_000


class _Start(Struct, frozen=True):
    id: str = ""
    type: str = ""


class _Content(Struct, frozen=True):
    text: str = ""


class _Delta(Struct, frozen=True):
    index: int | None = None
    content: _Content = _Content()


class _Raw(Struct, frozen=True):
    type: str = ""
    event: _Start = _Start()
    event_id: str = ""
    delta: _Delta = _Delta()


class Preview(Struct, frozen=True, kw_only=True):
    """The value of a record on the previews topic: an event's shape without a place in the log."""

    tenant_id: str
    session_id: str
    type: str
    turn_id: str | None
    at: str
    data: dict[str, Any]


class _Place(Struct, frozen=True):
    """Where a text belongs: a block of a message in the making."""

    tenant_id: str
    session_id: str
    turn_id: str | None
    event_id: str
    index: int


_decoder = msgspec.json.Decoder(_Raw)


class Previews:
    """Collects deltas and publishes them from `run`, which ends when cancelled."""

    def __init__(self, producer: AIOKafkaProducer, clock: Clock) -> None:
        self._producer = producer
        self._clock = clock
        self._waiting: dict[_Place, list[str]] = {}
        self._some = asyncio.Event()
        self._count = 0

    def add(self, key: tuple[str, str], turn_id: str | None, raw: bytes) -> None:
        """Take a raw `event_start` or `event_delta`; one that can't be read is dropped."""
        try:
            seen = _decoder.decode(raw)
        except msgspec.DecodeError:
            return
        if len(self._waiting) >= MAX_WAITING:
            metrics.inc("turnstile_previews_dropped_total")
            return
        started = seen.type == "event_start"
        id, index = (seen.event.id, -1) if started else (seen.event_id, seen.delta.index or 0)
        place = _Place(*key, turn_id, id, index)
        text = seen.event.type if started else seen.delta.content.text
        self._waiting.setdefault(place, []).append(text)
        self._some.set()

    async def run(self) -> None:
        """Publish what was collected, every 30 ms while there is some."""
        while True:
            await self._some.wait()
            await asyncio.sleep(COALESCE_SECONDS)
            self._some.clear()
            waiting, self._waiting = self._waiting, {}
            for place, texts in waiting.items():
                await self._publish(place, _data(place, texts))

    async def _publish(self, place: _Place, data: dict[str, Any]) -> None:
        at = rfc3339(self._clock())
        preview = Preview(
            tenant_id=place.tenant_id,
            session_id=place.session_id,
            type=data["type"],
            turn_id=place.turn_id,
            at=at,
            data=data,
        )
        self._count += 1
        envelope = Envelope(
            id=f"{place.event_id}:{self._count}",
            source=f"{AGENT_WORKER}/{place.tenant_id}",
            type=preview.type,
            time=at,
            subject=place.session_id,
        )
        try:
            async with asyncio.timeout(1.0):
                await self._producer.send(
                    topics.PREVIEWS.name,
                    key=place.session_id.encode(),
                    value=msgspec.json.encode(preview),
                    headers=envelope.headers(),
                )
            metrics.inc("turnstile_previews_published_total")
        except Exception:  # best effort is the contract; the cause shows in the producer's own log
            metrics.inc("turnstile_previews_dropped_total")


def _data(place: _Place, texts: list[str]) -> dict[str, Any]:
    if place.index < 0:
        return {"type": "event_start", "event": {"type": texts[0], "id": place.event_id}}
    content = {"type": "text", "text": "".join(texts)}
    delta = {"type": "content_delta", "index": place.index, "content": content}
    return {"type": "event_delta", "event_id": place.event_id, "delta": delta}
