"""The events topic as a year can hold it: each event judged as it is said, counted, and dropped."""

from __future__ import annotations

import asyncio
from collections import Counter, defaultdict
from dataclasses import dataclass, field

import msgspec

from shared.bus import topics
from shared.bus.envelope import Headers
from shared.clock import Clock
from shared.session.events import OWN_TYPES, TURN_ENDS, Event, SessionCharged, TurnRequiresAction
from shared.session.key import SessionKey
from shared.session.state import SessionState
from tests.fakes.publisher import MemoryPublisher

_charged = msgspec.json.Decoder(SessionCharged)


@dataclass(slots=True)
class Book:
    """Sums of the ledger's lines, in micro-dollars: by provider session; by session, user and month, the turns'
    own by turn, too."""

    by_provider: Counter[str] = field(default_factory=Counter)
    by_month: Counter[tuple[SessionKey, str, str]] = field(default_factory=Counter)
    by_turn: Counter[tuple[SessionKey, str, str, str]] = field(default_factory=Counter)

    def enter(self, event: Event) -> None:
        """Add the lines of one `session.charged`."""
        charged = _charged.decode(event.data)
        total = sum(line.micro_usd for line in charged.lines)
        key, month = (event.tenant_id, event.session_id), event.at[:7]
        self.by_provider[charged.provider_session_id] += total
        self.by_month[key, event.user_id, month] += total
        if event.turn_id:
            self.by_turn[key, event.user_id, month, event.turn_id] += total


class YearLog(MemoryPublisher):
    """The Publisher port. `wrong` is what broke a law: seq without gaps, a repeat the same byte for byte."""

    def __init__(self, clock: Clock) -> None:
        super().__init__(clock)
        self.wrong: list[str] = []
        self.book = Book()
        self.count: Counter[str] = Counter()
        self.repeats = 0
        self.dead = 0
        self.ends: dict[str, list[str]] = defaultdict(list)
        self.recorded: Counter[str] = Counter()  # events of each provider session
        self._said: dict[SessionKey, list[int]] = defaultdict(list)
        self._waits: dict[str, asyncio.Future[str]] = {}

    def last_seq(self, key: SessionKey) -> int:
        """The newest that was said."""
        return len(self._said.get(key, ()))

    async def end_of(self, turn_id: str) -> str:
        """Wait until the turn has ended, or waits for an answer; returns the type of its end, or the call's id."""
        self._waits[turn_id] = asyncio.get_running_loop().create_future()
        return await self._waits[turn_id]

    def preview(self, state: SessionState, raw: bytes, turn_id: str | None) -> None:
        """See Publisher.preview: nobody reads them here."""

    def _put(self, topic: str, key: str, value: object, headers: Headers) -> None:
        if topic == topics.DEAD.name:
            self.dead += 1
        elif isinstance(value, Event):
            self._hear(value)

    def _hear(self, event: Event) -> None:
        said = self._said[event.tenant_id, event.session_id]
        body = hash(msgspec.json.encode(event))
        if event.seq <= len(said):
            self.repeats += 1
            if said[event.seq - 1] != body:
                self.wrong.append(f"{event.session_id}: two bodies for seq {event.seq}")
        elif event.seq > len(said) + 1:
            self.wrong.append(f"{event.session_id}: seq {event.seq} after {len(said)}")
        else:
            said.append(body)
            self._take(event)

    def _take(self, event: Event) -> None:
        self.count[event.type] += 1
        if event.type not in OWN_TYPES:
            self.recorded[event.event_id.rpartition("_")[0].removeprefix("sevt_")] += 1
        elif event.type == "session.charged":
            self.book.enter(event)
        elif event.type in TURN_ENDS and event.turn_id:
            self.ends[event.turn_id].append(event.type)
            self._tell(event.turn_id, event.type)
        elif event.type == "turn.requires_action" and event.turn_id:
            found = msgspec.json.decode(event.data, type=TurnRequiresAction)
            self._tell(event.turn_id, found.pending_actions[0].tool_use_id)

    def _tell(self, turn_id: str, what: str) -> None:
        wait = self._waits.pop(turn_id, None)
        if wait is not None and not wait.done():
            wait.set_result(what)
