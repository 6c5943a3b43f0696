"""How what a client hears is written: the records of text/event-stream.

Format: WHATWG HTML, "Server-sent events", section 9.2.6.
"""

from __future__ import annotations

COMMENT = b": still here\n\n"
# The wait of a browser before it connects again, in milliseconds.
RETRY = b"retry: 2000\n\n"


def one_line(json: bytes) -> bytes:
    """The same JSON without line breaks: between JSON's tokens they are white space, inside strings
    they can't occur."""
    if b"\n" in json or b"\r" in json:
        return json.replace(b"\r", b" ").replace(b"\n", b" ")
    return json


def message(event: str, data: bytes, seq: int | None = None) -> bytes:
    """One record; with a `seq` the client's Last-Event-ID moves to it."""
    name = one_line(event.encode())
    if seq is None:
        return b"event: %b\ndata: %b\n\n" % (name, one_line(data))
    return b"id: %d\nevent: %b\ndata: %b\n\n" % (seq, name, one_line(data))


END = message("end", b"{}")
