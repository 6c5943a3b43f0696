"""Events as ClickHouse writes them for a stream, out of the answer of one query: no Python touches an event."""

from __future__ import annotations

import contextlib
import re
from collections.abc import Callable
from pathlib import Path
from threading import Lock
from typing import Any

from services.gateway.ports import Stretch
from services.gateway.streams.live import read_heading
from shared.session.key import SessionKey

QUERY = (
    Path(__file__).parents[3] / "infra" / "clickhouse" / "queries" / "gateway_event_records.sql"
).read_text()
# What is there first is sent first: blocks of a few thousand rows, merged as they are read.
SETTINGS = {
    "output_format_json_escape_forward_slashes": 0,
    "max_block_size": 4096,
    "split_intersecting_parts_ranges_into_layers_final": 0,
}
# Large enough that what is done for each piece does not count, small enough that a stream holds little.
PIECE_BYTES = 512 * 1024
END = b"\n\n"
_RECORD = re.compile(rb"id: \d+\nevent: .*\ndata: (\{.*\})\n\n")


class BrokenAnswer(Exception):
    """What came is not the next records: an error's words, or the answer was cut off."""


def parameters(key: SessionKey, after: int, until: int) -> dict[str, Any]:
    """Those of QUERY."""
    tenant, session = key
    return {"tenant_id": tenant, "session_id": session, "after": after, "until": until}


class Stretches:
    """The stretches of events in an answer to QUERY.

    `next` blocks and is for one thread at a time; `close` does not wait and may be called by another meanwhile.
    """

    def __init__(self, ask: Callable[[], Any], after: int) -> None:
        self.closed = False
        self._ask = ask
        self._answer: Any = None
        self._last = after
        self._rest = b""
        self._reading = Lock()

    def next(self) -> Stretch | None:
        """The next whole records, about PIECE_BYTES of them; None after the last. The first call asks the query.

        Raises BrokenAnswer, and what the HTTP client raises.
        """
        try:
            with self._reading:
                return self._next()
        finally:
            if self.closed:
                self._release()

    def close(self) -> None:
        """End the query if it runs, and the reading of it; a second call does nothing."""
        self.closed = True
        self._release()

    def _next(self) -> Stretch | None:
        if self._answer is None:
            self._answer = self._ask()
        while piece := self._answer.read(PIECE_BYTES, decode_content=False):
            end = piece.rfind(END)
            if end >= 0:
                whole = end + len(END)
                records = b"".join((self._rest, memoryview(piece)[:whole]))
                self._rest = piece[whole:]
                return self._stretch(records)
            self._rest += piece
        rest, self._rest = self._rest, b""
        return self._stretch(rest) if rest else None

    def _stretch(self, records: bytes) -> Stretch:
        """Raises BrokenAnswer unless these begin with the event that is next and end with a whole record."""
        before_newest = records.rfind(END, 0, -len(END))
        begins = before_newest + len(END) if before_newest >= 0 else 0
        newest = _RECORD.fullmatch(records, begins)
        if newest is None or not records.startswith(b"id: %d\n" % (self._last + 1)):
            raise BrokenAnswer
        heading = read_heading(newest[1])
        before, self._last = self._last, heading.seq
        return Stretch(heading.seq - before, heading.seq, heading.type, heading.at, records)

    def _release(self) -> None:
        """Close the connection, unless a read is under way: that one ends, and closes it."""
        if self._answer is None:
            return
        with contextlib.suppress(OSError, RuntimeError, ValueError):  # it was closed already
            self._answer.shutdown()
        if self._reading.acquire(blocking=False):
            self._answer.close()
            self._reading.release()
