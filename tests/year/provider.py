"""A provider that works for a while, and bills its sessions by the simulator's prices, which are not ours."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from datetime import datetime
from random import Random
from typing import Any

from infra.simulator.play.usage import Tokens, Usage
from tests.fakes.conversation import ASKING, Conversation, Script
from tests.fakes.provider import MemoryProvider

MODEL = "claude-opus-5-5"
# What one turn may take at most: the reservation of a turn has to cover it.
MOST_REQUESTS, MOST_FRESH, MOST_READ, MOST_OUTPUT, MOST_SECONDS = 2, 12_000, 30_000, 1_500, 25.0
ASKS = "[[script: confirm]]"


class PayingConversation(Conversation):
    """Runs for some seconds a turn, and counts them and its tokens. Both follow from the text and nothing else."""

    def __init__(self, id: str, mark: str, clock: Callable[[], datetime]) -> None:
        super().__init__(id, mark, clock)
        self.usage = Usage()
        self.opened_at = clock()
        self.closed_at: datetime | None = None
        self._time = clock
        self._running_since: datetime | None = None

    def close(self, *, erase: bool) -> None:
        """See Conversation.close."""
        super().close(erase=erase)
        self.closed_at = self.closed_at or self._time()

    def emit(self, kind: str, *, thread: str | None = None, **body: Any) -> str:
        """See Conversation.emit. Running time lasts from `running` to the account before `idle`."""
        if kind == "session.status_running":
            self._running_since = self._time()
        return super().emit(kind, thread=thread, **body)

    def _play(self, content: list[Any], text: str, fate: str) -> Script:
        draw = Random(text)
        self.emit("session.status_running")
        self.emit("user.message", content=content)
        yield from self._work(draw)
        if ASKS in text:
            yield from self._wait(ASKING)
        for _ in range(draw.randint(1, MOST_REQUESTS)):
            self._request(text, draw)
        self._idle("end_turn")

    def _work(self, draw: Random) -> Script:
        seconds = draw.uniform(1.0, MOST_SECONDS)
        asyncio.get_running_loop().call_later(seconds, self._go_on)
        yield

    def _request(self, text: str, draw: Random) -> None:
        spent = Tokens(
            fresh=draw.randint(500, MOST_FRESH),
            output=draw.randint(50, MOST_OUTPUT),
            cache_read=draw.randint(0, MOST_READ),
        )
        start = self.emit("span.model_request_start")
        self.emit("agent.message", content=[{"type": "text", "text": text}])
        usage = spent.span()
        self.emit("span.model_request_end", model_request_start_id=start, model_usage=usage)
        self.usage.add(MODEL, spent)

    def _idle(self, reason: str, **more: Any) -> None:
        if self._running_since is not None:
            ran = self._time() - self._running_since
            self.usage.active += ran.days * 86_400_000_000 + ran.seconds * 10**6 + ran.microseconds
            self._running_since = None
        self.emit("session.usage", usage=self.usage.of_session())
        self.emit("session.status_idle", stop_reason={"type": reason, **more})


class PayingProvider(MemoryProvider):
    """See MemoryProvider."""

    def __init__(self, clock: Callable[[], datetime]) -> None:
        super().__init__(chunk=16)
        self.model = MODEL
        self.clock = self._time = clock

    def _make(self, id: str, mark: str) -> PayingConversation:
        return PayingConversation(id, mark, self._time)

    @property
    def paid(self) -> list[PayingConversation]:
        """All sessions ever made."""
        return [one for one in self.sessions.values() if isinstance(one, PayingConversation)]
