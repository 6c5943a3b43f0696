"""HTTP over one keep-alive connection, without a client's own cost in the figure."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import Iterable
from typing import Any
from urllib.parse import urlsplit

from tests.bench.child import ChildError

TIMEOUT_S = 30.0


class Refused(ChildError):
    """An answer that is not 2xx; `status` is its number."""

    def __init__(self, status: int, text: str) -> None:
        super().__init__(text)
        self.status = status


class Wire:
    """One connection to a server. Answers need a Content-Length, as all of ours have."""

    def __init__(self, url: str, headers: dict[str, str]) -> None:
        target = urlsplit(url)
        self._host, self._port = target.hostname, target.port
        lines = [f"host: {target.netloc}", *(f"{k}: {v}" for k, v in headers.items())]
        self._headers = "\r\n".join(lines)
        self._reader: asyncio.StreamReader | None = None
        self._writer: asyncio.StreamWriter | None = None

    async def call(self, method: str, path: str, body: Any = None) -> tuple[Any, float]:
        """(the answer's JSON, the wall-clock time just before the request was written).

        Raises Refused on a status that is not 2xx.
        """
        content = b"" if body is None else json.dumps(body).encode()
        head = f"{method} {path} HTTP/1.1\r\n{self._headers}\r\ncontent-length: {len(content)}"
        async with asyncio.timeout(TIMEOUT_S):
            if self._writer is None:
                self._reader, self._writer = await asyncio.open_connection(self._host, self._port)
            sent = time.time()
            self._writer.write(head.encode() + b"\r\n\r\n" + content)
            status, text = await self._answer()
        if not 200 <= status < 300:
            raise Refused(status, f"{method} {path} answered {status}: {text[:300]!r}")
        return json.loads(text) if text else None, sent

    async def close(self) -> None:
        if self._writer is not None:
            self._writer.close()

    async def _answer(self) -> tuple[int, bytes]:
        assert self._reader is not None
        head = (await self._reader.readuntil(b"\r\n\r\n")).decode("latin-1").lower()
        length = head.partition("content-length:")[2].partition("\r\n")[0]
        return int(head.split(" ", 2)[1]), await self._reader.readexactly(int(length or 0))


async def open_sessions(url: str, headers: dict[str, str], ids: Iterable[str]) -> None:
    """Open sessions of these ids at a gateway, one after another. Raises Refused."""
    wire = Wire(url, headers)
    for session_id in ids:
        await wire.call("POST", "/v1/sessions", {"user_id": "bench", "session_id": session_id})
    await wire.close()
