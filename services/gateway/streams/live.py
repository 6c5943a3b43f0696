"""The live fan-out: the tail of what is published, given to the subscribers of its session, each with a bounded
queue; and the ring, which keeps the newest events of all sessions for those who come just late.

A subscriber that reads too slowly loses its queue, not its place: `lagged` is set, and it reads the history again
from where it is. So memory is bounded by streams times queue, plus the ring.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import AsyncIterator, Callable, Sequence

import msgspec
from msgspec import Struct
from msgspec import json as msgjson

from services.gateway.event_stream import message
from services.gateway.ports import Entry, Record, Stretch
from services.gateway.register import Register
from shared import logs, metrics
from shared.bus.topics import PREVIEWS
from shared.errors import Transient
from shared.session.events import RESUMABLE
from shared.session.key import SessionKey

QUEUE_EVENTS = 512
QUEUE_BYTES = 4 * 1024 * 1024
RING_BYTES = 64 * 1024 * 1024
# Messages in the making that a reader is shown at once: one, and a few whose end was never heard of.
MAX_SHOWN = 64
NEVER = -1
PREVIEWED = ("agent.message", "agent.thinking")


class Heading(Struct, frozen=True):
    """What an event must say to find its readers. Decoding it costs a microsecond."""

    tenant_id: str
    session_id: str
    type: str
    seq: int = 0
    at: str = ""
    event_id: str = ""


class _Reason(Struct, frozen=True):
    reason: str = ""


class _Archived(Struct, frozen=True):
    data: _Reason = _Reason()


class _Begun(Struct, frozen=True):
    id: str = ""


class _Shown(Struct, frozen=True):
    event: _Begun = _Begun()
    event_id: str = ""


class Place(Struct, frozen=True):
    """Which message a preview shows a piece of, and which piece: 0 is the message's start."""

    number: int
    data: _Shown = _Shown()

    @property
    def message(self) -> str:
        """The id of the event that the message will be."""
        return self.data.event_id or self.data.event.id


_heading = msgjson.Decoder(Heading)
_archived = msgjson.Decoder(_Archived)
_place = msgjson.Decoder(Place)


def read_heading(value: bytes) -> Heading:
    """Raises msgspec.DecodeError (ValidationError is one) when the value is no event or preview."""
    return _heading.decode(value)


def is_resumable(archived: bytes) -> bool:
    """Whether this `session.archived` leaves a session that takes turns."""
    return _archived.decode(archived).data.reason in RESUMABLE


class Preview(Struct, frozen=True):
    """A preview on its way to a client, as a stream has it."""

    record: bytes


Heard = Stretch | Preview


class Subscription:
    """One reader of one session. Events come in order of publication, repeats included.

    Of a message's previews it gets all up to some point: what it is shown of a message is a beginning of it. After
    a piece that is missing, and for who came in the middle, there are none.
    """

    def __init__(self, key: SessionKey, previews: bool) -> None:
        self.key = key
        self.previews = previews
        self.lagged = False
        self._items: deque[Heard] = deque()
        self._bytes = 0
        self._some = asyncio.Event()
        self._alarm: asyncio.Handle | None = None
        self._alarm_at = 0.0
        # The number of the next preview of each message in the making.
        self._shown: dict[str, int] = {}

    def show(self, place: Place, preview: Preview) -> None:
        """Queue a preview, if it is the one that comes next of its message."""
        expected = self._shown.get(place.message, 0)
        if self.lagged or place.number != expected:
            self._expect(place.message, NEVER)  # also when it is begun anew
            return
        self._expect(place.message, expected + 1)
        self.offer(preview)

    def complete(self, event_id: str) -> None:
        """The message is there: no preview of it is of use any more."""
        self._expect(event_id, NEVER)

    def _expect(self, message: str, number: int) -> None:
        self._shown[message] = number
        if len(self._shown) > MAX_SHOWN:
            del self._shown[next(iter(self._shown))]

    def offer(self, item: Heard) -> None:
        """Queue an item. Over the bound everything queued is dropped and `lagged` is set."""
        if self.lagged:
            return
        self._items.append(item)
        self._bytes += len(item.record)
        self._some.set()
        if len(self._items) > QUEUE_EVENTS or self._bytes > QUEUE_BYTES:
            self.lag()
            metrics.inc("turnstile_sse_slow_clients_total")

    def lag(self) -> None:
        """Drop what is queued; the reader has to read the history."""
        self._items.clear()
        self._bytes = 0
        self._shown = dict.fromkeys(self._shown, NEVER)
        self.lagged = True
        self._some.set()

    def resume(self) -> None:
        """Take part again after `lagged`; call it before reading the history."""
        self.lagged = False
        self._some.clear()

    async def next(self, timeout: float) -> Heard | None:
        """The next item; None after `timeout` seconds without one, or when `lagged`."""
        loop = asyncio.get_running_loop()
        until = loop.time() + timeout
        while not self._items and not self.lagged and loop.time() < until:
            self._some.clear()
            self._wake_at(until)
            await self._some.wait()
        return self.take()

    def take(self) -> Heard | None:
        """The next item, if one is queued."""
        if not self._items:
            return None
        item = self._items.popleft()
        self._bytes -= len(item.record)
        return item

    def close(self) -> None:
        """Nobody waits any more."""
        if self._alarm is not None:
            self._alarm.cancel()
            self._alarm = None

    def _wake_at(self, moment: float) -> None:
        """Wake the reader then at the latest. An earlier alarm stays: most waits end with an event, and an alarm
        for each of them would cost more than telling it."""
        if self._alarm is not None and self._alarm_at <= moment:
            return
        self.close()
        loop = asyncio.get_running_loop()
        self._alarm, self._alarm_at = loop.call_at(moment, self._wake), moment

    def _wake(self) -> None:
        self._alarm = None
        self._some.set()


class Ring:
    """The newest events of all sessions, `limit` bytes of them."""

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._bytes = 0
        self._order: deque[SessionKey] = deque()
        self._sessions: dict[SessionKey, deque[Entry]] = {}

    def add(self, key: SessionKey, entry: Entry) -> None:
        entries = self._sessions.setdefault(key, deque())
        entries.append(entry)
        self._order.append(key)
        self._bytes += len(entry.value)
        while self._bytes > self._limit and self._order:
            self._drop_oldest()

    def after(self, key: SessionKey, seq: int) -> list[Entry]:
        """What is kept of this session beyond `seq`, in order of publication."""
        return [entry for entry in self._sessions.get(key, ()) if entry.seq > seq]

    def newest(self, key: SessionKey) -> int:
        """The highest seq kept; 0 when none is."""
        return max((entry.seq for entry in self._sessions.get(key, ())), default=0)

    def forget(self, key: SessionKey) -> None:
        """Keep nothing of this session."""
        self._bytes -= sum(len(entry.value) for entry in self._sessions.pop(key, ()))

    def _drop_oldest(self) -> None:
        key = self._order.popleft()
        entries = self._sessions.get(key)
        if not entries:
            return  # forgotten meanwhile
        self._bytes -= len(entries.popleft().value)
        if not entries:
            del self._sessions[key]


class Live:
    """The fan-out. One event loop owns it; nothing here waits."""

    def __init__(self, *, ring_bytes: int = RING_BYTES) -> None:
        self._readers: dict[SessionKey, set[Subscription]] = {}
        self.ring = Ring(ring_bytes)

    def subscribe(self, key: SessionKey, previews: bool) -> Subscription:
        """Hear of everything published from now on."""
        subscription = Subscription(key, previews)
        self._readers.setdefault(key, set()).add(subscription)
        return subscription

    def leave(self, subscription: Subscription) -> None:
        """The reader is gone; a second call does nothing."""
        readers = self._readers.get(subscription.key)
        if readers is None or subscription not in readers:
            return
        readers.discard(subscription)
        subscription.close()
        if not readers:
            del self._readers[subscription.key]

    def event(self, heading: Heading, value: bytes) -> None:
        """An event was published."""
        key = (heading.tenant_id, heading.session_id)
        entry = Entry(heading.seq, heading.type, heading.at, value)
        self.ring.add(key, entry)
        if heading.type == "session.erased":
            self.ring.forget(key)
        readers = self._readers.get(key)
        if readers is None:
            return
        heard = Stretch(
            1, entry.seq, entry.type, entry.at, entry.record
        )  # written once for all of them
        for reader in readers:
            reader.offer(heard)
            if reader.previews and heading.type in PREVIEWED:
                reader.complete(heading.event_id)

    def preview(self, heading: Heading, value: bytes) -> None:
        """A preview was published; nobody keeps it. One without a place in its message is of no use."""
        readers = self._readers.get((heading.tenant_id, heading.session_id), ())
        wanting = [reader for reader in readers if reader.previews]
        if not wanting:
            return
        try:
            place = _place.decode(value)
        except msgspec.DecodeError:
            return
        preview = Preview(message(heading.type, value))
        for reader in wanting:
            reader.show(place, preview)

    def missed(self) -> None:
        """Something may have been published unheard: every reader reads its history again."""
        for readers in self._readers.values():
            for reader in readers:
                reader.lag()

    @property
    def readers(self) -> int:
        """How many subscriptions there are."""
        return sum(len(readers) for readers in self._readers.values())


# Streams go on as soon as the log is back: a look costs little, one a second is enough.
FIRST_WAIT, LONGEST_WAIT = 0.2, 1.0
Tail = Callable[[], AsyncIterator[Sequence[Record]]]
_log = logs.get("gateway.listener")


class Listener:
    """`listening` is set once nothing published from then on is missed."""

    def __init__(self, tail: Tail, live: Live, register: Register) -> None:
        self._tail = tail
        self._live = live
        self._register = register
        self.listening = asyncio.Event()

    async def check(self) -> None:
        """Raises Transient while streams would hear of events late, and of previews never."""
        if not self.listening.is_set():
            raise Transient("kafka_unavailable", "what is published is not listened to yet")

    async def run(self) -> None:
        """Listen for ever; what was missed while the log was away is found in the history."""
        # A loop of its own (see shared.retry): a tail that was heard makes the next wait short again.
        wait = FIRST_WAIT
        while True:
            try:
                async for records in self._tail():
                    if not self.listening.is_set():
                        self.listening.set()
                        self._live.missed()
                        wait = FIRST_WAIT
                    for record in records:
                        self._hear(record)
            except Transient as error:
                _log.warning("live_tail_waits", reason=error.reason, detail=str(error))
            self.listening.clear()
            await asyncio.sleep(wait)
            wait = min(wait * 2, LONGEST_WAIT)

    def _hear(self, record: Record) -> None:
        try:
            heading = read_heading(record.value)
        except msgspec.DecodeError:
            return
        if record.topic == PREVIEWS.name:
            self._live.preview(heading, record.value)
        elif heading.seq > 0:
            self._live.event(heading, record.value)
            key = (heading.tenant_id, heading.session_id)
            archived = heading.type == "session.archived"
            resumable = archived and is_resumable(record.value)
            self._register.hear(key, heading.type, resumable=resumable)
