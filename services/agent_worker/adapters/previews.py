"""Token deltas on their way to `turnstile.previews.v1`: coalesced per message for up to 30 ms, never waited for.

The data of a preview is the provider's own `event_start` or `event_delta`, neighbouring texts of one block joined,
so that what reads the provider's stream reads ours. Previews may be lost and are never archived, but what is shown
of a message is its beginning: `number` counts a message's previews without gaps, 0 being its `event_start`, so that
who misses one knows that all later ones are of no use; and of a message of which something can't be shown, nothing
more is published.
"""

from __future__ import annotations

import asyncio
import json
import re
from typing import Any

import msgspec
from msgspec import Struct

from shared import metrics
from shared.bus import topics
from shared.bus.envelope import AGENT_WORKER, Envelope
from shared.clock import Clock
from shared.moment import rfc3339
from shared.session.key import SessionKey
from shared.stream import Publishing

COALESCE_SECONDS = 0.03
# Texts waiting at once, one for each block of a message; beyond it new ones are dropped: a preview is only worth
# something now.
MAX_WAITING = 10_000
# Messages whose next preview is known; beyond it nothing more is shown of the oldest.
MAX_MESSAGES = 10_000
# In place of a block's index: the message's start.
START = -1


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
    """The value of a record on the previews topic: an event's shape without a place in the log. `number` is its
    place among the previews of its message."""

    tenant_id: str
    session_id: str
    type: str
    turn_id: str | None
    at: str
    number: int
    data: dict[str, Any]


class _Key(Struct, frozen=True):
    """A message in the making."""

    tenant_id: str
    session_id: str
    event_id: str


class _Place(Struct, frozen=True):
    """Where a text belongs: a block of a message, or START."""

    key: _Key
    turn_id: str | None
    index: int


class _Message(Struct):
    """How far a message was taken: the `number` of its next preview, and half a surrogate pair of the block `index`
    that waits for its other half. `stopped`: nothing more is taken of it."""

    number: int = 0
    held: str = ""
    index: int = 0
    stopped: bool = False


_decoder = msgspec.json.Decoder(_Raw)
_SURROGATE = re.compile("[\ud800-\udfff]")


class Previews:
    """Collects deltas and publishes them from `run`, which ends when cancelled."""

    def __init__(self, producer: Publishing, clock: Clock) -> None:
        self._producer = producer
        self._clock = clock
        self._waiting: dict[_Place, list[str]] = {}
        self._some = asyncio.Event()
        self._messages: dict[_Key, _Message] = {}

    def add(self, key: SessionKey, turn_id: str | None, raw: bytes) -> None:
        """Take a raw `event_start` or `event_delta`. One that can't be read may be of any of the session's
        messages: nothing more is taken of them."""
        seen = _read(raw)
        if seen is None:
            for known, message in self._messages.items():
                if (known.tenant_id, known.session_id) == key:
                    _stop(message)
        elif seen.type == "event_start":
            self._begin(_Key(*key, seen.event.id), turn_id, seen.event.type)
        else:
            self._go_on(_Key(*key, seen.event_id), turn_id, seen.delta)

    def _begin(self, key: _Key, turn_id: str | None, kind: str) -> None:
        message = self._messages.get(key)
        if message is not None:  # another stream tells of it now, nobody knows from where on
            _stop(message)
            return
        if len(self._messages) >= MAX_MESSAGES:
            del self._messages[next(iter(self._messages))]
        self._messages[key] = message = _Message()
        self._wait(_Place(key, turn_id, START), kind, message)

    def _go_on(self, key: _Key, turn_id: str | None, delta: _Delta) -> None:
        message, index = self._messages.get(key), delta.index or 0
        if message is None or message.stopped:
            return
        if message.held and message.index != index:
            _stop(message)
            return
        text, message.held, sound = _whole(message.held + delta.content.text)
        message.index = index
        if text:
            self._wait(_Place(key, turn_id, index), text, message)
        if not sound:
            _stop(message)

    def _wait(self, place: _Place, text: str, message: _Message) -> None:
        if place not in self._waiting and len(self._waiting) >= MAX_WAITING:
            _stop(message)
            return
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
                message = self._messages.get(place.key)
                if message is not None:
                    message.number += 1
                    await self._publish(place, message, _data(place, texts))

    async def _publish(self, place: _Place, message: _Message, data: dict[str, Any]) -> None:
        key, at = place.key, rfc3339(self._clock())
        preview = Preview(
            tenant_id=key.tenant_id,
            session_id=key.session_id,
            type=data["type"],
            turn_id=place.turn_id,
            at=at,
            number=message.number - 1,
            data=data,
        )
        envelope = Envelope(
            id=f"{key.event_id}:{preview.number}",
            source=f"{AGENT_WORKER}/{key.tenant_id}",
            type=preview.type,
            time=at,
            subject=key.session_id,
        )
        try:
            async with asyncio.timeout(1.0):
                await self._producer.send(
                    topics.PREVIEWS.name,
                    key=key.session_id.encode(),
                    value=msgspec.json.encode(preview),
                    headers=envelope.headers(),
                )
            metrics.inc("turnstile_previews_published_total")
        except Exception:  # best effort is the contract; the cause shows in the producer's own log
            _stop(message)


def _read(raw: bytes) -> _Raw | None:
    """What a record of the stream says; None for what can't be read. A text may end in half a surrogate pair, which
    only Python's own reader takes."""
    try:
        return _decoder.decode(raw)
    except (msgspec.DecodeError, UnicodeDecodeError):
        pass
    try:
        return msgspec.convert(json.loads(raw), _Raw)
    except (ValueError, RecursionError, msgspec.ValidationError):
        return None


def _whole(text: str) -> tuple[str, str, bool]:
    """As much of `text` from its beginning as is text, half a surrogate pair at its end, and whether that is
    all."""
    if text.isascii():
        return text, "", True
    text = text.encode("utf-16-le", "surrogatepass").decode("utf-16-le", "surrogatepass")
    lone = _SURROGATE.search(text)
    if lone is None:
        return text, "", True
    at = lone.start()
    if at == len(text) - 1 and lone[0] < "\udc00":
        return text[:at], lone[0], True
    return text[:at], "", False


def _stop(message: _Message) -> None:
    message.stopped = True
    metrics.inc("turnstile_previews_dropped_total")


def _data(place: _Place, texts: list[str]) -> dict[str, Any]:
    event_id = place.key.event_id
    if place.index == START:
        return {"type": "event_start", "event": {"type": texts[0], "id": event_id}}
    content = {"type": "text", "text": "".join(texts)}
    delta = {"type": "content_delta", "index": place.index, "content": content}
    return {"type": "event_delta", "event_id": event_id, "delta": delta}
