"""The row of an event: its JSON goes into the archive byte for byte.

Pure. All that happens here is a look at what the table's keys and columns rely on; `data` is passed over, not
parsed. What ClickHouse reads out of `data` is its own affair (see the table's DEFAULT expressions).
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Annotated, Any

import msgspec
from msgspec import Meta, Raw, Struct

from services.recorder.ports import BadRecord, GoodRecord, Record
from shared.bus.envelope import AGENT_WORKER, source_of, traceparent_of
from shared.bus.parts import Joiner
from shared.errors import Corrupt
from shared.session.events import TURN_ENDS

Text = Annotated[str, Meta(min_length=1)]


class Row(Struct, frozen=True, gc=False):
    """The columns that must be right for a row to be found, replaced and put in time order."""

    tenant_id: Text
    session_id: Text
    seq: Annotated[int, Meta(ge=1)]
    event_id: str
    type: Text
    at: Annotated[datetime, Meta(tz=True)]
    data: Raw
    user_id: str
    turn_id: str | None = None
    thread_id: str | None = None
    model: str | None = None
    trace_id: str = ""


_decoder = msgspec.json.Decoder(Row)
_OBJECT = ord("{")
_SURROGATE = re.compile(rb"\\u[dD][89a-fA-F][0-9a-fA-F]{2}")


def read_row(value: bytes | None) -> Row:
    """What the value of a record says about its row.

    Raises Corrupt (`empty_value`, `invalid_json`, `invalid_event`) with the field and what is wrong with it, never
    with its content.
    """
    if not value:
        raise Corrupt("empty_value", "the record has no value; an event is a JSON object")
    try:
        row = _decoder.decode(value)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
        row = _reread(value)
    if memoryview(row.data)[0] != _OBJECT:
        raise Corrupt("invalid_event", "Expected `object` - at `$.data`")
    return row


def _reread(value: bytes) -> Row:
    """The row of a text that could not be read at once. Raises Corrupt."""
    try:
        return _decode(value)
    except msgspec.ValidationError as error:
        raise Corrupt("invalid_event", str(error)) from None
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise Corrupt("invalid_json", _words(error)) from None


def _decode(value: bytes) -> Row:
    """The row, also of a text with half a surrogate pair, which a cut emoji leaves behind: JSON allows it."""
    try:
        return _decoder.decode(value)
    except msgspec.ValidationError:
        raise
    except msgspec.DecodeError:
        readable = _SURROGATE.sub(rb"\\u003f", value)
        if readable == value:
            raise
        return _decoder.decode(readable)


def _words(error: Exception) -> str:
    if isinstance(error, UnicodeDecodeError):
        return f"the value is not UTF-8: byte {error.start} ({error.reason})"
    if isinstance(error, RecursionError):
        return "the value is nested too deeply"
    return str(error)


def body(records: Iterable[Record]) -> bytes:
    """The records' values as one JSONEachRow body."""
    return b"\n".join([record.value for record in records if record.value])


ERASED = "session.erased"


class KeptRecord(Struct, gc=False):
    """A record until it is in the archive, in a quarter of the memory. `erases` is known once its value was read.

    A consumer's record is two dozen objects, most of them of its headers, which are asked for only when the row is
    refused. A batch of such would be looked through by the garbage collector again and again.
    """

    topic: str
    partition: int
    offset: int
    timestamp: int
    key: bytes | None
    value: bytes | None
    packed_headers: bytes
    erases: bool = False

    @property
    def headers(self) -> list[tuple[str, bytes]]:
        headers: list[tuple[str, bytes]] = _unpack(self.packed_headers)
        return headers


# What a record's headers are kept as, and back. A stranger's header may have no value, whatever their type says.
pack: Callable[[Sequence[tuple[str, bytes]]], bytes] = msgspec.msgpack.Encoder().encode
_unpack: Callable[[bytes], Any] = msgspec.msgpack.Decoder(list[tuple[str, bytes | None]]).decode


def kept(record: Record) -> KeptRecord:
    """The same record, in few objects."""
    return KeptRecord(
        record.topic,
        record.partition,
        record.offset,
        record.timestamp,
        record.key,
        record.value,
        pack(record.headers),
    )


# Traces a batch's span is linked to; more would make it the largest row of the batch.
MAX_LINKS = 64
# Turns whose traces tell of the insert. More of them end in a batch when the recorder catches up, and their spans
# would be a quarter of its work and of the archive's.
MAX_ENDS = 256
# A record's own cost beside its value and headers, roughly.
OVERHEAD = 512


@dataclass(slots=True)
class Batch:
    """Records in the order they came. `reach` has the next offset per (topic, partition), bad records included.

    `count` is of all of them, `size` in bytes, `oldest` the smallest timestamp in milliseconds. `ends` are the
    traceparents of turns that ended here, MAX_ENDS at most; `links` some traceparents of the rest.
    """

    rows: list[GoodRecord] = field(default_factory=list)
    bad: list[BadRecord] = field(default_factory=list)
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
        """Take a record; False when it is a bad one, which is then among `bad`."""
        self.pass_over(record)
        if self.oldest is None or record.timestamp < self.oldest:
            self.oldest = record.timestamp
        value = record.value
        self.size += len(value or b"") + OVERHEAD
        try:
            row = read_row(value)
        except Corrupt as error:
            self.bad.append(BadRecord(record, error.reason, str(error)))
            return False
        good = record if isinstance(record, KeptRecord) else kept(record)
        self.rows.append(good)
        kind = row.type
        if kind == ERASED:
            good.erases = True
        traces, most = (self.ends, MAX_ENDS) if kind in TURN_ENDS else (self.links, MAX_LINKS)
        if len(traces) < most and (parent := traceparent_of(good.headers)):
            traces[parent] = None
        return True


def is_ours(record: Record) -> bool:
    """Whether our own agent-worker published it, as far as its headers tell. What strangers write there is put
    aside and stops nobody."""
    return source_of(record.headers).startswith(AGENT_WORKER)
