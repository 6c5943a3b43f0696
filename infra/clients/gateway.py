"""A client of the gateway's public HTTP interface, and a reader of its event streams."""

from __future__ import annotations

import json
from collections.abc import AsyncIterable, AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any

import httpx2

Json = dict[str, Any]
ANSWER_S = 20.0


class UnexpectedAnswer(RuntimeError):
    """An answer whose status is none of those expected; the message names the call, the status and the body."""


@dataclass(frozen=True, slots=True)
class Received:
    """One server-sent event; `raw` is its data. `seq` is None on previews, which are never archived."""

    seq: int | None
    type: str
    raw: bytes

    @property
    def body(self) -> Json:
        """The event's JSON, parsed."""
        parsed: Json = json.loads(self.raw)
        return parsed


class Gateway:
    """A client with one API key. Every call but a stream ends within `timeout` seconds."""

    def __init__(self, base_url: str, key: str, timeout: float = ANSWER_S) -> None:
        self.http = httpx2.AsyncClient(
            base_url=base_url,
            headers={"Authorization": f"Bearer {key}"},
            timeout=timeout,
            limits=httpx2.Limits(max_connections=None),
        )
        self._timeout = timeout

    async def __aenter__(self) -> Gateway:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.close()

    async def close(self) -> None:
        """Give the connections back."""
        await self.http.aclose()

    async def get(self, path: str, **more: Any) -> Json:
        """GET. Raises UnexpectedAnswer unless it is 200."""
        return checked(await self.http.get(path, **more), 200)

    async def post(self, path: str, body: Json, *expected: int) -> Json:
        """POST. Raises UnexpectedAnswer on any status but the expected ones (202 when none is given)."""
        return checked(await self.http.post(path, json=body), *(expected or (202,)))

    @asynccontextmanager
    async def stream(
        self, path: str, last_event_id: int | None = None, silence: float | None = None
    ) -> AsyncIterator[AsyncIterator[Received]]:
        """An event stream, open. The caller bounds the wait, or `silence`: seconds without a byte.

        Raises UnexpectedAnswer unless it is 200, httpx2.TransportError when the connection breaks.
        """
        headers = {} if last_event_id is None else {"Last-Event-ID": str(last_event_id)}
        timeout = httpx2.Timeout(self._timeout, read=silence)
        async with self.http.stream("GET", path, headers=headers, timeout=timeout) as answer:
            if answer.status_code != 200:
                await answer.aread()
                checked(answer, 200)
            yield received(answer.aiter_bytes())


def checked(answer: httpx2.Response, *expected: int) -> Json:
    """The JSON of an answer. Raises UnexpectedAnswer when its status is none of the expected ones."""
    if answer.status_code not in expected:
        where = f"{answer.request.method} {answer.request.url.path}"
        raise UnexpectedAnswer(f"{where}: {answer.status_code} {answer.text[:500]}")
    body: Json = answer.json()
    return body


async def received(chunks: AsyncIterable[bytes]) -> AsyncIterator[Received]:
    """The events in the bytes of a stream, which may be cut anywhere; comments are left out.

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
    seq = int(fields[b"id"]) if fields.get(b"id") else None
    return Received(seq, fields.get(b"event", b"message").decode(), fields[b"data"])
