"""Parses the bytes of an event stream as the standard says, with nothing of the product."""

from __future__ import annotations

import json
from collections.abc import AsyncIterable, AsyncIterator
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True, slots=True)
class Received:
    """One server-sent event. `seq` is None where no `id:` came with it; `raw` is the `data:` line."""

    seq: int | None
    type: str
    raw: bytes

    @property
    def body(self) -> dict[str, Any]:
        """The event's JSON, parsed."""
        parsed: dict[str, Any] = json.loads(self.raw)
        return parsed


async def received(chunks: AsyncIterable[bytes]) -> AsyncIterator[Received]:
    """The events in a stream that may be cut anywhere; comments are left out.

    Lines end at newlines only: JSON may hold other characters that Unicode calls line ends.
    """
    pending, fields = b"", dict[bytes, bytes]()
    async for chunk in chunks:
        *lines, pending = (pending + chunk).split(b"\n")
        for line in lines:
            name, _, value = line.removesuffix(b"\r").partition(b":")
            if name:
                fields[name] = value.removeprefix(b" ")
            elif not line.startswith(b":"):
                if b"data" in fields:
                    yield _event(fields)
                fields = {}


def _event(fields: dict[bytes, bytes]) -> Received:
    seq = int(fields[b"id"]) if b"id" in fields else None
    return Received(seq, fields.get(b"event", b"message").decode(), fields[b"data"])
