"""A client's stream of its session, opened again from its last seq whenever it ends."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from contextlib import aclosing
from datetime import datetime

import httpx2

from infra.clients.gateway import Received
from shared.session.caps import CAP_RESERVED
from tests.chaos.gateway import Gateway, Json

ENDS = frozenset({"turn.completed", "turn.interrupted", "turn.refused", "turn.failed"})
_PAUSE_S = 0.1


class Follower:
    """Follows one session for as long as `run` runs.

    `said`: turn ids and when each was answered with 202, as the talker tells. `taken`: when each was heard to be
    accepted. `ended`: the type of event it ended with. `pending`: tool calls that ask, by id. `latest`: the
    youngest event's own time, seconds since the epoch. `held`: turns that wait for what others reserved under a
    cap. `closed`: the session was archived on request. `wrong`: seqs that came twice or after a gap, in words.
    """

    def __init__(self, gateway: Gateway, session_id: str) -> None:
        self.session_id = session_id
        self.last_seq = 0
        self.said: dict[str, float] = {}
        self.taken: dict[str, float] = {}
        self.ended: dict[str, str] = {}
        self.pending: dict[str, Json] = {}
        self.latest = 0.0
        self.held: set[str] = set()
        self.closed = False
        self.wrong: list[str] = []
        self._gateway = gateway
        self._moved = asyncio.Event()

    @property
    def busy(self) -> bool:
        """A turn was answered with 202 and was not heard to end, and none waits for money."""
        return bool(self.said.keys() - self.ended.keys()) and not self.held

    def uptakes(self) -> list[float]:
        """Seconds from the 202 of each turn until its `turn.accepted` was heard."""
        return [max(0.0, self.taken[t] - at) for t, at in self.said.items() if t in self.taken]

    async def run(self) -> None:
        """Follow until cancelled."""
        while True:
            try:
                async with aclosing(self._gateway.follow(self.session_id, self.last_seq)) as stream:
                    async for event in stream:
                        self._take(event)
            except httpx2.TransportError:
                pass
            await asyncio.sleep(_PAUSE_S)

    async def until(self, holds: Callable[[], bool], seconds: float) -> bool:
        """Wait until it holds; False when the time is over first."""
        deadline = time.monotonic() + seconds
        while not holds():
            try:
                async with asyncio.timeout(deadline - time.monotonic()):
                    await self._moved.wait()
            except TimeoutError:
                return holds()
        return True

    def _take(self, event: Received) -> None:
        if event.seq is None:
            return
        if event.seq != self.last_seq + 1:
            self.wrong.append(f"seq {event.seq} came after {self.last_seq}")
        self.last_seq = max(self.last_seq, event.seq)
        self.latest = max(self.latest, datetime.fromisoformat(event.body["at"]).timestamp())
        self._know(event.type, event.body)
        moved, self._moved = self._moved, asyncio.Event()
        moved.set()

    def _know(self, kind: str, body: Json) -> None:
        if kind.startswith("turn."):
            self.held.discard(body["turn_id"])
        if kind == "session.archived":
            self.closed |= body["data"]["reason"] == "requested"
        elif kind == "turn.retrying" and body["data"]["reason"] == CAP_RESERVED:
            self.held.add(body["turn_id"])
        elif kind in ENDS:
            self.ended[body["turn_id"]] = kind
            self.pending.clear()
        elif kind == "turn.requires_action":
            actions = body["data"]["pending_actions"]
            self.pending |= {action["tool_use_id"]: action for action in actions}
        elif kind == "turn.accepted":
            self.taken.setdefault(body["turn_id"], time.monotonic())
