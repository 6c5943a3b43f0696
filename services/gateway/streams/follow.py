"""History and live as one stream: subscribe first, read the history, then listen.

Emitted events are last + 1, last + 2, …: whatever was heard live meanwhile and is known already is dropped, and
whatever is missing sends the stream back to the history. So no event is missing or repeated where the two meet.
"""

from __future__ import annotations

import re
import time
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass

from services.gateway.ports import Entry, Stretch
from services.gateway.streams.history import History, Hole
from services.gateway.streams.live import Heard, Live, Preview, Subscription, is_resumable
from shared.clock import utcnow
from shared.errors import Transient
from shared.moment import parse
from shared.session.key import SessionKey

HEARTBEAT_SECONDS = 15.0
# An event can be published before this gateway began to listen and reach the archive and the read
# model only later: until a stream is settled it looks again, soon and then every second, and from then
# on with every heartbeat.
FIRST_LOOK_SECONDS, LOOK_SECONDS = 0.1, 1.0
UNSETTLED_LOOKS = 12
HOLE_TRIES = 6
# What is heard at once is told in pieces of so many bytes.
TOGETHER = 64 * 1024
# A closed session's last events are those of its turn's end and of the provider's goodbye. Its stream ends when so
# many seconds brought nothing more; fewer once the provider has said that its session is over.
CLOSED = ("session.archived", "session.erased")
GOODBYE = "session.status_terminated"
_ARCHIVING = re.compile(rb"\nevent: session\.archived\ndata: (.+)\n")
CLOSED_SECONDS, GOODBYE_SECONDS = 10.0, 1.0


class Heartbeat:
    """Nothing was sent for a while."""


class End:
    """The session is closed and nothing more comes."""


HEARTBEAT = Heartbeat()
END = End()
Item = Entry | Stretch | Preview | Heartbeat | End


@dataclass(slots=True)
class Follower:
    """One client's stream. Iterate `items` once; `close` frees everything. `closed`: the session is known to be."""

    key: SessionKey
    last: int
    history: History
    live: Live
    subscription: Subscription
    looks: int = 0
    misses: int = 0
    closed: bool = False
    newest: Entry | Stretch | None = None
    heard_at: float = 0.0

    @classmethod
    def start(
        cls, key: SessionKey, after: int, previews: bool, history: History, live: Live
    ) -> Follower:
        """Listen from now on."""
        return cls(key, after, history, live, live.subscribe(key, previews))

    def close(self) -> None:
        self.live.leave(self.subscription)

    async def items(self) -> AsyncIterator[Sequence[Item]]:
        """Endless, unless the session is closed: then its last item is END. What is there at once comes together.

        Raises Transient when an event cannot be had: the client is to come again.
        """
        quiet_since = self.heard_at = time.monotonic()
        target = await self.history.newest(self.key)
        while True:
            async for some in self._catch_up(target):
                yield [some]
                quiet_since = time.monotonic()
            if self.closed and self.last >= target and await self._over():
                yield [END]
                return
            heard = await self.subscription.next(self._patience(quiet_since))
            if heard is not None:
                ready, target = self._ready(heard, target)
                if ready:
                    yield ready
                    quiet_since = time.monotonic()
            else:
                target = await self._look(target)
                if time.monotonic() - quiet_since >= HEARTBEAT_SECONDS:
                    yield [HEARTBEAT]
                    quiet_since = time.monotonic()

    def _ready(self, heard: Heard | None, target: int) -> tuple[list[Item], int]:
        """What was heard and can be told at once, TOGETHER bytes of it, and the highest seq known by now. It ends
        where an event is missing."""
        ready, size, item = list[Item](), 0, heard
        while item is not None:
            if isinstance(item, Stretch) and item.seq != self.last + 1:
                target = max(target, item.seq)
                if item.seq > self.last:
                    break
            else:
                if isinstance(item, Stretch):
                    self._took(item)
                ready.append(item)
                size += len(item.record)
            item = self.subscription.take() if size < TOGETHER else None
        return ready, target

    async def _catch_up(self, target: int) -> AsyncIterator[Entry | Stretch]:
        while self.last < target:
            if self.subscription.lagged:
                self.subscription.resume()
                target = max(target, await self.history.newest(self.key))
            try:
                async for some in self.history.stretches(self.key, self.last, target):
                    self._took(some)
                    yield some
            except Hole:
                self.misses += 1
                if self.misses >= HOLE_TRIES:
                    raise
                return

    def _took(self, some: Entry | Stretch) -> None:
        self.last, self.misses = some.seq, 0
        self.newest, self.heard_at = some, time.monotonic()
        self.closed = self.closed or _closes(some)

    async def _over(self) -> bool:
        """Whether nothing more comes of a closed session: it is quiet, and no turn is open."""
        said = self.newest is not None and self.newest.type == GOODBYE
        quiet = GOODBYE_SECONDS if said else CLOSED_SECONDS
        since = time.monotonic() - self.heard_at
        if since < quiet and (self.newest is None or _age(self.newest) < quiet):
            return False
        try:
            page = await self.history.read_model.session(self.key)
        except Transient:
            return False
        return page is None or (page.view.open_turn is None and page.view.last_seq <= self.last)

    async def _look(self, target: int) -> int:
        """The highest seq known by now, and whether the session is closed: one that was before this stream began
        may be shown so later. Looked up rarely once the stream is settled."""
        self.looks += 1
        if self.subscription.lagged:
            self.subscription.resume()
        try:
            page = await self.history.read_model.session(self.key)
        except Transient:  # the read model is away; what is published is still heard
            return target
        if page is not None:
            self.closed = self.closed or page.view.closed
            target = max(target, page.view.last_seq)
        return max(target, self.history.live.ring.newest(self.key))

    def _patience(self, quiet_since: float) -> float:
        if self.misses or self.closed:
            return LOOK_SECONDS / 2
        left = max(0.0, quiet_since + HEARTBEAT_SECONDS - time.monotonic())
        if self.looks >= UNSETTLED_LOOKS:
            return left
        return min(left, LOOK_SECONDS, FIRST_LOOK_SECONDS * 2.0**self.looks)


def _closes(some: Entry | Stretch) -> bool:
    """Whether one of these events closes the session for good."""
    if not some.tells(CLOSED):
        return False
    archivings = _ARCHIVING.findall(some.record)
    return some.tells(("session.erased",)) or not all(map(is_resumable, archivings))


def _age(entry: Entry | Stretch) -> float:
    """How many seconds ago an event happened, by its own time."""
    return (utcnow() - parse(entry.at)).total_seconds()
