"""Store in memory, with a clock that is handed in so that leases can run out without waiting."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass

import msgspec
from msgspec.structs import replace

from services.agent_worker.ports import Head, Money, NewInput, Unread, filed_of
from shared.clock import Clock
from shared.errors import Fenced
from shared.moment import parse
from shared.session import commands, state
from shared.session.events import read_event
from shared.session.inputs import Filed
from shared.session.key import SessionKey
from tests.fakes.caps import MemoryBooks

MAX_UNREAD = 1_000


@dataclass(slots=True)
class Row:
    """One session. `wake_at` is in seconds since the epoch; None: not due by itself."""

    head: Head
    filed: int = 0
    owner: str | None = None
    wake_at: float | None = None


class MemoryStore:
    """The Store port. What is written goes through bytes, so that nothing is kept that a row could not keep."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self.rows: dict[SessionKey, Row] = {}
        self.inbox: dict[SessionKey, dict[int, NewInput]] = {}
        self.books = MemoryBooks()

    @property
    def moving(self) -> dict[SessionKey, Row]:
        """The rows that may be due or held by somebody."""
        return self.rows

    @property
    def next_wake(self) -> float | None:
        """When the next session is due, in seconds since the epoch."""
        return min((r.wake_at for r in self.moving.values() if r.wake_at is not None), default=None)

    async def file(self, inputs: Sequence[NewInput]) -> set[SessionKey]:
        """See Store.file."""
        news = set[SessionKey]()
        for new in inputs:
            inbox = self.inbox.setdefault(new.key, {})
            if any(
                known.input_id == new.input_id
                or (known.input_id == new.formerly and new.repeats(known.kind, known.body))
                for known in inbox.values()
            ):
                continue
            row = self.rows.setdefault(new.key, Row(_new(new.key)))
            row.filed += 1
            inbox[row.filed] = new
            if row.owner is None:
                row.wake_at = self._now()
            news.add(new.key)
        return news

    async def claim(self, owner: str, limit: int, lease_seconds: float) -> list[Head]:
        """See Store.claim."""
        now = self._now()
        due = [
            row for row in self.moving.values() if row.wake_at is not None and row.wake_at <= now
        ]
        due.sort(key=lambda row: row.wake_at or 0.0)
        for row in due[:limit]:
            row.owner, row.wake_at = owner, now + lease_seconds
            row.head = replace(row.head, epoch=row.head.epoch + 1)
        return [row.head for row in due[:limit]]

    async def extend(self, owner: str, lease_seconds: float) -> dict[SessionKey, int]:
        """See Store.extend."""
        mine = {key: row for key, row in self.moving.items() if row.owner == owner}
        for row in mine.values():
            row.wake_at = self._now() + lease_seconds
        return {key: row.head.epoch for key, row in mine.items()}

    async def let_go(self, owner: str, keys: Collection[SessionKey], after_seconds: float) -> None:
        """See Store.let_go."""
        for key in keys:
            row = self.rows.get(key)
            if row is not None and row.owner == owner:
                row.owner, row.wake_at = None, self._now() + after_seconds

    async def with_news(self, owner: str) -> set[SessionKey]:
        """See Store.with_news."""
        rows = self.moving.items()
        return {key for key, row in rows if row.owner == owner and row.filed > row.head.taken}

    async def unread(self, key: SessionKey, after: int) -> list[Unread]:
        """See Store.unread; at most 1,000 at a time."""
        later = [place for place in self.inbox.get(key, {}) if place > after]
        return [Unread(n, filed_of(self.inbox[key][n])) for n in later[:MAX_UNREAD]]

    async def read(self, key: SessionKey, input_id: str) -> Filed:
        """See Store.read."""
        for new in self.inbox.get(key, {}).values():
            if new.input_id == input_id:
                return filed_of(new)
        raise KeyError(input_id)

    async def write(self, head: Head, money: Money | None = None) -> Head:
        """See Store.write."""
        row = self._guarded(head)
        if money is not None:
            self.books.settle(head, money, self._now())
        row.head = replace(_through_bytes(head), version=head.version + 1)
        return replace(head, version=head.version + 1)

    async def take_in(self, head: Head, inputs: Sequence[NewInput]) -> Head | None:
        """See Store.take_in."""
        row = self.rows[head.key]
        before = row.filed
        await self.file(inputs)
        as_read = (row.head.epoch, row.head.version) == (head.epoch, head.version)
        if not as_read or row.filed - before != len(inputs) or row.filed != head.taken:
            return None
        written = replace(head, version=head.version + 1, position=row.filed)
        row.head = _through_bytes(written)
        return written

    async def release(self, head: Head, due_at: str | None) -> None:
        """See Store.release."""
        row = self._guarded(head)
        row.head = replace(_through_bytes(head), version=head.version + 1)
        due = parse(due_at).timestamp() if due_at else None
        row.owner, row.wake_at = None, self._now() if row.filed > head.taken else due

    async def erase(self, head: Head, due_at: str | None) -> None:
        """See Store.erase."""
        await self.release(head, due_at)
        inbox = self.inbox.get(head.key, {})
        for place in [place for place in inbox if place <= head.position]:
            del inbox[place]

    def _guarded(self, head: Head) -> Row:
        row = self.rows.get(head.key)
        if row is None or (row.head.epoch, row.head.version) != (head.epoch, head.version):
            raise Fenced(f"{head.key}: epoch {head.epoch} version {head.version} was overtaken")
        return row

    def _now(self) -> float:
        return self._clock().timestamp()


def _new(key: SessionKey) -> Head:
    return Head(key=key, epoch=0, version=0, state=state.initial(*key))


def _through_bytes(head: Head) -> Head:
    return replace(
        head,
        state=state.decode(state.encode(head.state)),
        unsaid=tuple(read_event(msgspec.json.encode(event)) for event in head.unsaid),
        todo=commands.decode(commands.encode(head.todo)),
    )
