"""The inputs topic in memory: one partition, one group, offsets committed by hand."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

from services.agent_worker.ports import InputRecord
from shared.bus import topics
from shared.bus.envelope import Headers


class MemoryInputTopic:
    """The InputConsumer port of intake. `records` grows for ever; `committed` is where a new member starts.

    `member` makes what one process holds: a position of its own, which is lost with it.
    """

    def __init__(self) -> None:
        self.records: list[InputRecord] = []
        self.committed = 0
        self._came = asyncio.Event()

    def put(self, key: bytes | None, value: bytes | None, headers: Headers) -> InputRecord:
        """Append a record."""
        source = f"{topics.INPUTS.name}/0/{len(self.records)}"
        record = InputRecord(key, value, tuple(headers), source)
        self.records.append(record)
        came, self._came = self._came, asyncio.Event()
        came.set()
        return record

    def member(self) -> MemoryMember:
        """A member of the group, at the committed offset."""
        return MemoryMember(self)

    async def came(self) -> None:
        """Wait for the next record to be put."""
        await self._came.wait()


class MemoryMember:
    """See InputConsumer; a batch is all there is."""

    def __init__(self, topic: MemoryInputTopic) -> None:
        self._topic = topic
        self._position = topic.committed
        self.left = False

    async def batch(self) -> Sequence[InputRecord]:
        """See InputConsumer.batch."""
        if self.left:
            self.left, self._position = False, self._topic.committed
        while self._position >= len(self._topic.records):
            await self._topic.came()
        records = self._topic.records[self._position :]
        self._position = len(self._topic.records)
        return records

    async def commit(self) -> None:
        """See InputConsumer.commit."""
        self._topic.committed = max(self._topic.committed, self._position)

    async def leave(self) -> None:
        """See InputConsumer.leave."""
        self.left = True
