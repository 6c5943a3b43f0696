"""The demo's calls of the gateway: its public HTTP interface and nothing else."""

import json
from collections.abc import AsyncGenerator, AsyncIterable
from dataclasses import dataclass
from typing import Any

import httpx2

_TIMEOUT_S = 15.0

Json = dict[str, Any]


class DemoFailed(RuntimeError):
    """The demo did not show what it should; the message says what was missing."""


@dataclass(frozen=True, slots=True)
class Received:
    """One server-sent event. `seq` is None on previews, which are never archived."""

    seq: int | None
    type: str
    body: Json


class Gateway:
    """A client with one API key. Every call but the stream ends within 15 s."""

    def __init__(self, base_url: str, key: str) -> None:
        self._http = httpx2.AsyncClient(
            base_url=base_url, headers={"Authorization": f"Bearer {key}"}, timeout=_TIMEOUT_S
        )

    async def __aenter__(self) -> "Gateway":
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._http.aclose()

    async def post(self, path: str, body: Json, *expected: int) -> Json:
        """POST and return the answer. Raises DemoFailed on any status but the expected ones."""
        return _checked(await self._http.post(path, json=body), *expected)

    async def get(self, path: str) -> Json:
        """GET and return the answer. Raises DemoFailed unless it is 200."""
        return _checked(await self._http.get(path), 200)

    async def follow(self, session_id: str) -> AsyncGenerator[Received, None]:
        """A session's events from its first one on, with previews, as long as it is read."""
        path = f"/v1/sessions/{session_id}/events?after=0&previews=true"
        timeout = httpx2.Timeout(_TIMEOUT_S, read=None)  # the caller bounds the wait
        async with self._http.stream("GET", path, timeout=timeout) as answer:
            if answer.status_code != 200:
                raise DemoFailed(f"GET {path} answered {answer.status_code}")
            async for event in events(answer.aiter_bytes()):
                yield event


async def events(chunks: AsyncIterable[bytes]) -> AsyncGenerator[Received, None]:
    """The events in the bytes of a stream, which may be cut anywhere.

    Lines end at newlines only: JSON may hold other characters that Unicode calls line ends.
    """
    pending, fields = b"", dict[str, str]()
    async for chunk in chunks:
        *lines, pending = (pending + chunk).split(b"\n")
        for line in lines:
            name, _, value = line.decode().rstrip("\r").partition(":")
            if name:  # a comment has none
                fields[name] = value.removeprefix(" ")
            elif not line.startswith(b":") and "data" in fields:
                yield received(fields)
                fields = {}


def received(fields: dict[str, str]) -> Received:
    """A block of an event stream, read."""
    seq = int(fields["id"]) if fields.get("id") else None
    return Received(seq, fields.get("event", "message"), json.loads(fields["data"]))


def _checked(answer: httpx2.Response, *expected: int) -> Json:
    if answer.status_code not in expected:
        where = f"{answer.request.method} {answer.request.url.path}"
        raise DemoFailed(f"{where} answered {answer.status_code}: {answer.text[:500]}")
    body: Json = answer.json()
    return body
