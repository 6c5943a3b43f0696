"""What survives a worker: the inputs topic, the database, the log, the provider, and the client that asks."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass, replace
from datetime import datetime, timedelta

import msgspec

from services.agent_worker.ports import InputRecord
from shared.bus.envelope import GATEWAY, Envelope, Headers
from shared.session.events import Event
from shared.session.inputs import REQUESTS, Filed, TurnRequested
from shared.session.lifetimes import Lifetimes, read
from shared.session.outcome import OUTCOME
from shared.session.policy import Policy
from tests.builders import BEGINNING, TRACEPARENT
from tests.fakes.caps import KnownCaps
from tests.fakes.inputs import MemoryInputTopic
from tests.fakes.provider import MemoryProvider
from tests.fakes.publisher import MemoryPublisher
from tests.fakes.store import MemoryStore

# How often a client looks before it gives up.
LOOKS = 3_000


@dataclass(frozen=True)
class Pace:
    """Seconds, in virtual time: how long leases last, how often workers and clients look, when what nobody answers
    is denied, how long sessions rest. Every look costs real time, so what takes long is looked at less often."""

    lease: float
    poll: float
    look: float
    answer_within: float = 24 * 3600.0
    lifetimes: Lifetimes | None = None


BRISK = Pace(lease=1.2, poll=0.3, look=0.1)
STEADY = Pace(lease=15.0, poll=5.0, look=1.0)
A_DAY = Pace(lease=60.0, poll=600.0, look=60.0)
RESTING = Pace(
    lease=3.0,
    poll=1.0,
    look=0.5,
    lifetimes=Lifetimes(idle=read("15", most=1e6), archive=read("40", most=1e6)),
)
WEARING = replace(RESTING, lifetimes=Lifetimes(turns=read("1", most=1e6)))
TWO_HOURS = replace(A_DAY, answer_within=2 * 3600.0)


class Outside:
    """One world. To be made inside a running loop, whose time is its clock.

    A play says in `sent` what the provider should get in the end, text by text, where that is not one message for
    each turn; in `rotations` how many provider sessions should be given up.
    """

    def __init__(self, pace: Pace = BRISK) -> None:
        self.pace = pace
        self.sent: list[str] | None = None
        self.rotations = 0
        self._loop = asyncio.get_running_loop()
        self._began = self._loop.time()
        self.topic = MemoryInputTopic()
        self.store = MemoryStore(self.clock)
        self.caps = KnownCaps()
        self.turn_reserve = 1_000_000
        self.policy = Policy(
            answer_within=pace.answer_within, silent_for=30.0, lifetimes=pace.lifetimes
        )
        self.publisher = MemoryPublisher(self.clock)
        self.provider = MemoryProvider()
        self.buried: list[tuple[InputRecord, str]] = []
        self.asked: list[Filed] = []
        # A tool that workers have: how long it takes, and how often it was run.
        self.clock_seconds = 0.4
        self.clock_runs = 0

    def clock(self) -> datetime:
        """The beginning of every test, and the loop's time since."""
        return BEGINNING + timedelta(seconds=self._loop.time() - self._began)

    # ---- what a client does -----------------------------------------------------------------------------------

    def ask(self, *filed: Filed) -> None:
        """Publish requests."""
        for one in filed:
            self.asked.append(one)
            self.topic.put(*as_record(one))

    async def said(self, kind: str, *, count: int = 1) -> Event:
        """The `count`-th event of that type (repeats left out), once it is on the log."""
        await self.until(lambda: len(self._said(kind)) >= count, f"{count} {kind}")
        return self._said(kind)[count - 1]

    def _said(self, kind: str) -> list[Event]:
        found = {event.seq: event for event in self.publisher.events if event.type == kind}
        return [found[seq] for seq in sorted(found)]

    async def until(self, holds: Callable[[], bool], what: str) -> None:
        """Wait. Raises AssertionError saying `what` was waited for."""
        for _ in range(LOOKS):
            if holds():
                return
            await asyncio.sleep(self.pace.look)
        types = [event.type for event in self.publisher.events]
        raise AssertionError(f"never came: {what}; said so far: {types}")

    @property
    def settled(self) -> bool:
        """Whether all that was asked was taken in, nobody holds a session and none is due within the hour."""
        rows = self.store.rows.values()
        soon = self.clock().timestamp() + 3600.0
        return self.topic.committed == len(self.topic.records) and all(
            row.owner is None
            and (row.wake_at is None or row.wake_at > soon)
            and row.filed == row.head.taken
            for row in rows
        )

    @property
    def due(self) -> bool:
        """Whether a session could be claimed now."""
        wake = self.store.next_wake
        return wake is not None and wake <= self.clock().timestamp()

    @property
    def meant(self) -> list[str]:
        """The texts that the provider should get, in order: those of the turns unless the play says otherwise."""
        if self.sent is not None:
            return self.sent
        requests = [filed.request for filed in self.asked]
        turns = [r for r in requests if isinstance(r, TurnRequested)]
        return [r.outcome.description if r.outcome else str(r.content) for r in turns]

    @property
    def received(self) -> list[str]:
        """The texts of what the provider was told, block by block, in order; of an outcome its description."""
        return [
            str(block["description" if block["type"] == OUTCOME else "text"])
            for session in self.provider.sessions.values()
            for content in session.told
            for block in content
        ]


def as_record(filed: Filed) -> tuple[bytes, bytes, Headers]:
    """Key, value and headers of a request as a publisher writes it, with a trace: else intake would begin one."""
    request = filed.request
    envelope = Envelope(
        id=filed.input_id.removeprefix("ce:"),
        source=GATEWAY,
        type=next(kind for kind, shape in REQUESTS.items() if type(request) is shape),
        time=request.at,
        subject=request.session_id,
        traceparent=filed.traceparent or TRACEPARENT,
    )
    return request.session_id.encode(), msgspec.json.encode(request), envelope.headers()
