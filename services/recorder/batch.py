"""A batch: good records, bad ones with their reason, and the offsets they reach."""

from __future__ import annotations

from dataclasses import dataclass, field

from services.recorder.ports import Record
from services.recorder.rows import read_row
from shared.bus.envelope import AGENT_WORKER, source_of, traceparent_of
from shared.bus.parts import Joiner
from shared.errors import Corrupt
from shared.session.events import TURN_ENDS

# Traces a batch's span is linked to; more would make it the largest row of the batch.
MAX_LINKS = 64
# A record's own cost beside its value and headers, roughly.
OVERHEAD = 512


@dataclass(frozen=True, slots=True)
class Letter:
    """A record nobody can use, and why: a stable word and words."""

    record: Record
    reason: str
    detail: str


@dataclass(slots=True)
class Batch:
    """Records in the order they came. `reach` has the next offset per (topic, partition), bad records included.

    `count` is of all of them, `size` in bytes, `oldest` the smallest timestamp in milliseconds. `ends` are the
    traceparents of turns that ended here, `links` some traceparents of the rest.
    """

    rows: list[Record] = field(default_factory=list)
    letters: list[Letter] = field(default_factory=list)
    count: int = 0
    size: int = 0
    reach: dict[tuple[str, int], int] = field(default_factory=dict)
    ends: dict[str, None] = field(default_factory=dict)
    links: dict[str, None] = field(default_factory=dict)
    oldest: int | None = None

    def __bool__(self) -> bool:
        return bool(self.reach)

    def pass_over(self, record: Record) -> None:
        """Take note of a record without a row of its own: a part of an event that is not whole yet."""
        self.count += 1
        self.reach[record.topic, record.partition] = record.offset + 1

    def hold(self, joiner: Joiner) -> None:
        """Reach no further than the first part of what is not whole: a part that was passed is not read again."""
        for place, reach in self.reach.items():
            first = joiner.first(place)
            self.reach[place] = reach if first is None else min(reach, first)

    def add(self, record: Record) -> bool:
        """Take a record; False when it is a bad one, which is then among the letters."""
        self.pass_over(record)
        if self.oldest is None or record.timestamp < self.oldest:
            self.oldest = record.timestamp
        self.size += len(record.value or b"") + OVERHEAD
        try:
            row = read_row(record.value)
        except Corrupt as error:
            self.letters.append(Letter(record, error.reason, str(error)))
            return False
        self.rows.append(record)
        if row.type in TURN_ENDS:
            self._trace(self.ends, record)
        elif len(self.links) < MAX_LINKS:
            self._trace(self.links, record)
        return True

    def _trace(self, traces: dict[str, None], record: Record) -> None:
        parent = traceparent_of(record.headers)
        if parent:
            traces[parent] = None


def is_ours(record: Record) -> bool:
    """Whether our own agent-worker published it, as far as its headers tell. What strangers write there is put
    aside and stops nobody."""
    return source_of(record.headers).startswith(AGENT_WORKER)
