"""Server-sent events off the wire: the JSON of each record, byte for byte.

The provider names every record `message`, sends comments as keep-alives and `event: error` for errors (seen on the
wire); a record without its closing blank line does not count.
"""

from __future__ import annotations

from collections.abc import AsyncIterator

import msgspec

from services.agent_worker.ports import ProviderFailure

# A record beyond this is no event of the API (bodies are limited to 32 MB).
MAX_RECORD = 64 * 1024 * 1024


async def records(chunks: AsyncIterator[bytes]) -> AsyncIterator[bytes]:
    """The data of each record. Raises ProviderFailure on an error record and on one that has no end."""
    rest = bytearray()
    async for chunk in chunks:
        # Only what is new is looked through: a record of many megabytes comes in thousands of chunks. Of what was
        # there only what may be half a line end.
        seen = max(0, len(rest) - 3)
        rest += chunk
        if b"\r" in rest[seen:]:
            rest = rest.replace(b"\r\n", b"\n")
            seen = 0
        if (end := rest.rfind(b"\n\n", seen)) >= 0:
            whole = bytes(rest[:end]).split(b"\n\n")
            del rest[: end + 2]
            for record in whole:
                data = _data(record)
                if data:
                    yield data
        if len(rest) > MAX_RECORD:
            raise ProviderFailure("stream_error", "a record of the event stream has no end")


def _data(record: bytes) -> bytes:
    """The record's data; empty for comments and pings."""
    if record.startswith(b"event: message\ndata: ") and record.count(b"\n") == 1:
        return record[21:]
    name, data = b"", list[bytes]()
    for line in record.split(b"\n"):
        key, _, value = line.partition(b":")
        value = value.removeprefix(b" ")
        if key == b"event":
            name = value
        elif key == b"data":
            data.append(value)
    if name == b"error":
        raise _error(b"\n".join(data))
    return b"" if name == b"ping" else b"\n".join(data)


def _error(data: bytes) -> ProviderFailure:
    try:
        body = msgspec.json.decode(data)
        reason = str(body["error"]["type"])
    except (msgspec.DecodeError, KeyError, TypeError):
        reason = "stream_error"
    return ProviderFailure(reason, "the provider ended the event stream with an error")
