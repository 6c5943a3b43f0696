"""How do history and live become one stream? Subscribe first, read the history, then listen.

Emitted events are last + 1, last + 2, …: whatever was heard live meanwhile and is known already is
dropped, and whatever is missing sends the stream back to the history. So a seam cannot show.
"""

from __future__ import annotations

import time
from collections.abc import AsyncIterator
from dataclasses import dataclass

from services.gateway.history import History, Hole
from services.gateway.live import Live, Preview, Subscription
from services.gateway.ports import Entry, SessionKey
from shared.errors import Transient

HEARTBEAT_SECONDS = 15.0
# An event can be published before this gateway began to listen and reach the archive and the read
# model only later: until a stream is settled it looks again, soon and then every second, and from then
# on with every heartbeat.
FIRST_LOOK_SECONDS, LOOK_SECONDS = 0.1, 1.0
UNSETTLED_LOOKS = 12
HOLE_TRIES = 6


class Heartbeat:
    """Nothing was sent for a while."""


HEARTBEAT = Heartbeat()
Item = Entry | Preview | Heartbeat


@dataclass(slots=True)
class Follower:
    """One client's stream. Iterate `items` once; `close` frees everything."""

    key: SessionKey
    last: int
    history: History
    live: Live
    subscription: Subscription
    looks: int = 0
    misses: int = 0

    @classmethod
    def start(
        cls, key: SessionKey, after: int, previews: bool, history: History, live: Live
    ) -> Follower:
        """Listen from now on. Raises Transient (`too_many_streams`)."""
        return cls(key, after, history, live, live.subscribe(key, previews))

    def close(self) -> None:
        self.live.leave(self.subscription)

    async def items(self) -> AsyncIterator[Item]:
        """Endless. Raises Transient when an event cannot be had: the client is to come again."""
        quiet_since = time.monotonic()
        target = await self.history.newest(self.key)
        while True:
            async for entry in self._catch_up(target):
                yield entry
                quiet_since = time.monotonic()
            heard = await self.subscription.next(self._patience(quiet_since))
            if isinstance(heard, Preview):
                yield heard
                quiet_since = time.monotonic()
            elif isinstance(heard, Entry):
                if heard.seq == self.last + 1:
                    self.last = heard.seq
                    yield heard
                    quiet_since = time.monotonic()
                target = max(target, heard.seq)
            else:
                target = await self._look(target)
                if time.monotonic() - quiet_since >= HEARTBEAT_SECONDS:
                    yield HEARTBEAT
                    quiet_since = time.monotonic()

    async def _catch_up(self, target: int) -> AsyncIterator[Entry]:
        while self.last < target:
            if self.subscription.lagged:
                self.subscription.resume()
                target = max(target, await self.history.newest(self.key))
            try:
                async for entry in self.history.read(self.key, self.last, target):
                    self.last, self.misses = entry.seq, 0
                    yield entry
            except Hole:
                self.misses += 1
                if self.misses >= HOLE_TRIES:
                    raise
                return

    async def _look(self, target: int) -> int:
        """The highest seq known by now; looked up rarely once the stream is settled."""
        self.looks += 1
        if self.subscription.lagged:
            self.subscription.resume()
        try:
            return max(target, await self.history.newest(self.key))
        except Transient:  # the read model is away; what is published is still heard
            return target

    def _patience(self, quiet_since: float) -> float:
        if self.misses:
            return LOOK_SECONDS / 2
        left = max(0.0, quiet_since + HEARTBEAT_SECONDS - time.monotonic())
        if self.looks >= UNSETTLED_LOOKS:
            return left
        return min(left, LOOK_SECONDS, FIRST_LOOK_SECONDS * 2.0**self.looks)
