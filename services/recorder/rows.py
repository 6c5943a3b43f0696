"""The row of an event: its JSON goes into the archive byte for byte.

Pure. All that happens here is a look at what the table's keys and columns rely on; `data` is passed over, not
parsed. What ClickHouse reads out of `data` is its own affair (see the table's DEFAULT expressions).
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from datetime import datetime
from typing import Annotated

import msgspec
from msgspec import Meta, Raw, Struct

from services.recorder.ports import Record
from shared.errors import Corrupt

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
        row = _decode(value)
    except msgspec.ValidationError as error:
        raise Corrupt("invalid_event", str(error)) from None
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise Corrupt("invalid_json", _words(error)) from None
    if memoryview(row.data)[0] != _OBJECT:
        raise Corrupt("invalid_event", "Expected `object` - at `$.data`")
    return row


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
    return b"\n".join(record.value for record in records if record.value)
