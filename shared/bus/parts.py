"""Events that no record can hold: numbered parts, one record each, joined by whoever reads.

Why so, and what it rests on: docs/decisions/0015-big-events.md. Every part has the key and the `ce_*` headers of
its event, and says in `part` which of how many it is (`2/3`), in `part_seq` the event's seq. Its value is a slice
of the event's JSON, so its content type is not JSON. The same event has the same parts whoever says it: a set may
be filled from two tellings.
"""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Callable, Collection, Iterator, Sequence
from dataclasses import dataclass, field
from operator import itemgetter
from typing import Any, Protocol, TypeVar

import msgspec
from msgspec import Struct

from shared.bus.envelope import Headers
from shared.bus.topics import MAX_MESSAGE_BYTES

# The rest of a message is for key, headers, and what compression adds to bytes that are compressed already.
PART_BYTES = MAX_MESSAGE_BYTES - 1024 * 1024
PART, PART_SEQ = "part", "part_seq"
SLICE = "application/octet-stream"
# Parts are said one right after another. A set that nothing was added to for so long, while its partition went on,
# is what a driver left behind who died; its successor has said the event again from the first part on.
STALE_SECONDS = 3600.0
Place = tuple[str, int]
_NAME = itemgetter(0)


class Record(Protocol):
    """What is used of a record; a dataclass."""

    @property
    def topic(self) -> str: ...
    @property
    def partition(self) -> int: ...
    @property
    def offset(self) -> int: ...
    @property
    def key(self) -> bytes | None: ...
    @property
    def value(self) -> bytes | None: ...
    @property
    def headers(self) -> Sequence[tuple[str, bytes]]: ...


R = TypeVar("R", bound=Record)


def split(
    value: bytes, headers: Headers, seq: int, most: int = PART_BYTES
) -> Iterator[tuple[bytes, Headers]]:
    """Value and headers of each record of an event: one, as they are, unless `value` has more than `most` bytes."""
    if len(value) <= most:
        yield value, headers
        return
    count = -(-len(value) // most)
    size = -(-len(value) // count)
    shared = [pair for pair in headers if pair[0] != "content-type"]
    for number in range(count):
        marks = [
            ("content-type", SLICE.encode()),
            (PART, b"%d/%d" % (number + 1, count)),
            (PART_SEQ, b"%d" % seq),
        ]
        yield value[number * size : (number + 1) * size], shared + marks


class _Heading(Struct, frozen=True):
    tenant_id: str
    session_id: str
    seq: int


_heading = msgspec.json.Decoder(_Heading)


@dataclass(frozen=True, slots=True)
class _Name:
    """Which event a part is of. Two tenants may have sessions of one id: the source tells them apart."""

    place: Place
    key: bytes | None
    source: bytes
    seq: int
    count: int


@dataclass(slots=True)
class _Set:
    first: int
    touched: float
    parts: dict[int, bytes] = field(default_factory=dict)


class Joiner:
    """Holds the parts of events until they are whole. One for each reader, given every record in the log's order.

    Memory: the events being said at the moment, and what drivers left that died between two parts.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._sets: dict[_Name, _Set] = {}

    @property
    def holds(self) -> bool:
        """Whether there are parts of what is not whole yet. While there are none, only parts need be given."""
        return bool(self._sets)

    def join(self, record: R) -> R | None:
        """The record, when it carries a whole event. Of a part: the whole event at this part's offset, when it was
        the last that was missing; None when others are."""
        name, number = _part_of(record)
        if name is None:
            if self._sets:
                self._pass(record)
            return record
        self._drop_stale()
        found = self._sets.setdefault(name, _Set(record.offset, 0.0))
        found.touched = self._clock()
        found.parts[number] = record.value or b""
        if len(found.parts) < name.count:
            return None
        value = b"".join(found.parts[index] for index in range(1, name.count + 1))
        headers = [pair for pair in record.headers if pair[0] not in (PART, PART_SEQ)]
        made: Any = record
        whole: R = dataclasses.replace(made, value=value, headers=headers)
        del self._sets[name]
        self._pass(whole)
        return whole

    def first(self, place: Place) -> int | None:
        """The offset of the first part held of a partition: whoever begins anew must begin there, not later."""
        return min(
            (held.first for name, held in self._sets.items() if name.place == place), default=None
        )

    def keep(self, places: Collection[Place]) -> None:
        """Forget the parts of all partitions but these."""
        for name in [name for name in self._sets if name.place not in places]:
            del self._sets[name]

    def _pass(self, record: Record) -> None:
        """Whoever says a later event has said all earlier ones whole: what is held of those is a repeat."""
        self._drop_stale()
        place = (record.topic, record.partition)
        same = [name for name in self._sets if name.place == place and name.key == record.key]
        if not same:
            return
        source, seq = _header(record, "ce_source"), _seq(record.value)
        for name in same:
            if name.source == source and name.seq < seq:
                del self._sets[name]

    def _drop_stale(self) -> None:
        limit = self._clock() - STALE_SECONDS
        for name in [name for name, held in self._sets.items() if held.touched < limit]:
            del self._sets[name]


def is_part(headers: Sequence[tuple[str, bytes]]) -> bool:
    """Whether a record says by its headers that it is a part of an event."""
    # Every record of the log is asked, and a loop in Python over its headers costs twice as much.
    return PART in map(_NAME, headers)


def _part_of(record: Record) -> tuple[_Name | None, int]:
    """Which event the record is a part of, and which one; None when it is none, or its marks make no sense."""
    if not is_part(record.headers):
        return None, 0
    part = _header(record, PART)
    try:
        number, count = (int(word) for word in part.split(b"/"))
        seq = int(_header(record, PART_SEQ))
    except ValueError:
        return None, 0
    if not 1 <= number <= count:
        return None, 0
    place = (record.topic, record.partition)
    return _Name(place, record.key, _header(record, "ce_source"), seq, count), number


def _header(record: Record, wanted: str) -> bytes:
    for name, value in record.headers:
        if name == wanted:
            return value or b""
    return b""


def _seq(value: bytes | None) -> int:
    try:
        return _heading.decode(value or b"").seq
    except (msgspec.DecodeError, UnicodeDecodeError):
        return 0
