"""Records and a log in memory, for the recorder's tests."""

from __future__ import annotations

import asyncio
import contextlib
import json
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from aiokafka import ConsumerRebalanceListener, TopicPartition

from services.recorder.archive import Refused

TOPIC = "turnstile.events.v1"
OURS = (("ce_source", b"/turnstile/agent-worker/acme"),)
TRACE = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"


@dataclass(frozen=True)
class FakeRecord:
    """One record, as the recorder sees it."""

    value: bytes | None
    offset: int = 0
    partition: int = 0
    topic: str = TOPIC
    timestamp: int = 1_700_000_000_000
    key: bytes | None = b"ses_1"
    headers: Sequence[tuple[str, bytes]] = ()
    erases: bool = False


def value(seq: object = 1, **fields: Any) -> bytes:
    """A good event's value."""
    event = {
        "tenant_id": "acme",
        "session_id": "ses_1",
        "seq": seq,
        "event_id": f"ses_1:{seq}",
        "type": "agent.message",
        "turn_id": "turn_1",
        "at": "2026-11-21T10:00:00.123456Z",
        "user_id": "u1",
        "data": {"id": "sevt_1"},
    }
    return json.dumps({**event, **fields}).encode()


def good(count: int, first: int = 0, partition: int = 0) -> list[FakeRecord]:
    """Good records with consecutive offsets."""
    return [FakeRecord(value(n + 1), n, partition) for n in range(first, first + count)]


class FakeLog:
    """One partition in memory; hands out what was published, from the committed offset on after a rebalance."""

    def __init__(self, records: Sequence[FakeRecord] = ()) -> None:
        self.records = list(records)
        self.at = 0
        self.committed = 0
        self.commits: list[int] = []
        self.paused = False
        self.polls = 0
        self.listener: ConsumerRebalanceListener | None = None
        self.partition = TopicPartition(TOPIC, 0)
        self.came = asyncio.Event()
        self.refusals: list[Exception] = []  # the next polls raise them

    def subscribe(
        self, topics: Sequence[str], *, listener: ConsumerRebalanceListener | None = None
    ) -> None:
        self.listener = listener

    def assignment(self) -> Collection[TopicPartition]:
        return {self.partition}

    def pause(self, *partitions: TopicPartition) -> None:
        self.paused = True

    def resume(self, *partitions: TopicPartition) -> None:
        self.paused = False

    def highwater(self, partition: TopicPartition) -> int | None:
        return len(self.records)

    def last_stable_offset(self, partition: TopicPartition) -> int | None:
        return len(self.records)

    async def position(self, partition: TopicPartition) -> int:
        return self.at

    async def commit(self, offsets: Mapping[TopicPartition, int]) -> None:
        self.committed = offsets[self.partition]
        self.commits.append(self.committed)

    async def topics(self) -> Collection[str]:
        return {TOPIC}

    async def start(self) -> None: ...

    async def stop(self) -> None: ...

    async def getmany(
        self, *, timeout_ms: int, max_records: int | None = None
    ) -> Mapping[TopicPartition, Sequence[FakeRecord]]:
        self.polls += 1
        await asyncio.sleep(0)
        if self.refusals:
            raise self.refusals.pop(0)
        if self.paused or self.at >= len(self.records):
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(timeout_ms / 1000):
                    await self.came.wait()
            self.came.clear()
            return {}
        end = self.at + (max_records or len(self.records))
        found = self.records[self.at : end]
        self.at += len(found)
        return {self.partition: found}

    def more(self, records: Sequence[FakeRecord]) -> None:
        """Append; a poll that waits wakes up."""
        self.records = [*self.records, *records]
        self.came.set()

    async def rebalance(self) -> None:
        """All partitions go and come back, as Kafka's eager protocol has it."""
        assert self.listener is not None
        revoked: Any = self.listener.on_partitions_revoked({self.partition})
        await revoked
        self.at = self.committed
        assigned: Any = self.listener.on_partitions_assigned({self.partition})
        await assigned


class FakeWriter:
    """Keeps rows and counts inserts; `answers` are raised in turn, values in `refuses` are refused."""

    def __init__(self, *answers: Exception, refuses: Collection[bytes] = ()) -> None:
        self.answers = list(answers)
        self.refuses = set(refuses)
        self.inserts = 0
        self.rows: list[bytes] = []

    def insert(self, body: bytes) -> None:
        self.inserts += 1
        if self.answers:
            raise self.answers.pop(0)
        lines = body.split(b"\n")
        if self.refuses & set(lines):
            raise Refused(117, "a bad row")
        self.rows += lines
