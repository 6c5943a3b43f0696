"""How does what is published reach the streams of this process? The tail is read for ever and fanned out."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Sequence

import msgspec

from services.gateway.live import Live, read_heading
from services.gateway.ports import Record
from services.gateway.register import Register
from shared import logs
from shared.bus.topics import PREVIEWS
from shared.errors import Transient

FIRST_WAIT, LONGEST_WAIT = 0.2, 5.0
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
                _log.warning("the live tail waits", reason=error.reason, detail=str(error))
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
            self._register.hear((heading.tenant_id, heading.session_id), heading.type)
