"""Publisher in memory: the records as Kafka would hold them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import msgspec

from shared.bus import topics
from shared.bus.envelope import Envelope, Headers, dead_letter
from shared.clock import Clock
from shared.moment import rfc3339
from shared.session.commands import DeadLetter
from shared.session.events import Event, read_event
from shared.session.inputs import REQUESTS, Filed
from shared.session.key import SessionKey
from shared.session.state import SessionState

SOURCE = "/turnstile/agent-worker"


@dataclass(frozen=True, slots=True)
class Said:
    """A record on a topic."""

    topic: str
    key: bytes
    value: bytes
    headers: Headers


class MemoryPublisher:
    """The Publisher port. `records` grows for ever, in the order of saying."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self.records: list[Said] = []
        self._events: list[Event] = []
        self._read = 0
        self._numbers: dict[str, int] = {}

    @property
    def events(self) -> list[Event]:
        """What was said on the events topic, repeats included."""
        news, self._read = self.records[self._read :], len(self.records)
        self._events += [read_event(s.value) for s in news if s.topic == topics.EVENTS.name]
        return list(self._events)

    async def say(self, events: Sequence[Event], parent_of: Callable[[Event], str]) -> None:
        """See Publisher.say."""
        for event in events:
            envelope = Envelope(
                id=event.event_id,
                source=f"{SOURCE}/{event.tenant_id}",
                type=event.type,
                time=event.at,
                subject=event.session_id,
                traceparent=parent_of(event),
            )
            self._put(topics.EVENTS.name, envelope.subject, event, envelope.headers())

    def preview(self, state: SessionState, raw: bytes, turn_id: str | None) -> None:
        """See Publisher.preview. Every delta is a record of its own; what can't be read is dropped."""
        try:
            data = msgspec.json.decode(raw, type=dict[str, Any])
        except msgspec.MsgspecError:
            return
        at = rfc3339(self._clock())
        id = data.get("event_id") or data.get("event", {}).get("id", "")
        self._numbers[id] = self._numbers.get(id, -1) + 1
        value = {
            "tenant_id": state.tenant_id,
            "session_id": state.session_id,
            "type": data.get("type", ""),
            "turn_id": turn_id,
            "at": at,
            "number": self._numbers[id],
            "data": data,
        }
        envelope = Envelope(
            id=f"preview:{len(self.records)}",
            source=f"{SOURCE}/{state.tenant_id}",
            type=value["type"],
            time=at,
            subject=state.session_id,
        )
        self._put(topics.PREVIEWS.name, state.session_id, value, envelope.headers())

    async def bury(self, key: SessionKey, filed: Filed, why: DeadLetter) -> None:
        """See Publisher.bury."""
        kind = next(kind for kind, shape in REQUESTS.items() if type(filed.request) is shape)
        at = rfc3339(self._clock())
        envelope = Envelope(
            id=filed.input_id,
            source=SOURCE,
            type=kind,
            time=at,
            subject=key[1],
            traceparent=filed.traceparent,
        )
        headers = dead_letter(
            envelope.headers(),
            reason=why.reason,
            detail=why.detail,
            attempts=why.attempts,
            at=at,
            source=f"inbox/{key[0]}/{filed.input_id}",
        )
        self._put(topics.DEAD.name, key[1], filed.request, headers)

    def _put(self, topic: str, key: str, value: object, headers: Headers) -> None:
        self.records.append(Said(topic, key.encode(), msgspec.json.encode(value), headers))
