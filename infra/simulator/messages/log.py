"""Every request for a message, and what became of it."""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass
from typing import Any

from msgspec import Raw

JSON = dict[str, Any]
MOST_BYTES = 256 * 1024 * 1024  # of all requests that are kept


@dataclass(slots=True)
class Seen:
    """A request. `finished`: the answer was written to its end; what comes of `message` is charged either way."""

    number: int
    at: str
    request_id: str
    path: str
    body: bytes
    status: int = 0
    error: str | None = None
    message: JSON | None = None
    finished: bool = False

    def as_json(self) -> JSON:
        return {
            "number": self.number,
            "at": self.at,
            "request_id": self.request_id,
            "path": self.path,
            "status": self.status,
            "error": self.error,
            "finished": self.finished,
            "request": Raw(self.body),
            "message": self.message,
        }


class MessageLog:
    """The newest `most` requests, as long as they fit."""

    def __init__(self, most: int) -> None:
        self._most = most
        self._kept: deque[Seen] = deque()
        self._bytes = 0
        self._count = 0

    def begin(self, at: str, request_id: str, path: str, body: bytes) -> Seen:
        """Notes a request that has just come; what becomes of it is written into what is returned."""
        self._count += 1
        seen = Seen(self._count, at, request_id, path, body)
        self._kept.append(seen)
        self._bytes += len(body)
        while len(self._kept) > self._most or self._bytes > MOST_BYTES:
            self._bytes -= len(self._kept.popleft().body)
        return seen

    def after(self, number: int) -> list[JSON]:
        """Those that came after the one with this number, oldest first."""
        return [seen.as_json() for seen in self._kept if seen.number > number]
