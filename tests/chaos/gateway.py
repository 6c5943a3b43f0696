"""A stubborn client of the gateway: the same call again until it is taken."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import AsyncGenerator
from typing import Any

import httpx2

from infra.clients.gateway import Gateway as Client
from infra.clients.gateway import Received, UnexpectedAnswer
from tests.chaos.failed import ChaosFailed

Json = dict[str, Any]
_ANSWER_S = 5.0  # longer than any answer of a gateway that runs, shorter than most pauses
_PAUSE_S = 0.1
_STREAM_SILENCE_S = 25.0  # a comment comes every 15 s


class Gateway:
    """A client with one key. `patience`: seconds until a call that is never taken fails the run."""

    def __init__(self, base_url: str, key: str, patience: float) -> None:
        self._patience = patience
        self._client = Client(base_url, key, _ANSWER_S)

    async def close(self) -> None:
        """Give the connections back."""
        await self._client.close()

    async def post(self, path: str, body: Json) -> int:
        """POST until it is answered with 2xx; how often it was sent.

        Raises ChaosFailed on a refusal, and when patience runs out.
        """
        tries, _ = await self._taken(path, body)
        return tries

    async def open(self, body: Json) -> tuple[int, str]:
        """POST /v1/sessions likewise; the id of the session, too."""
        tries, answer = await self._taken("/v1/sessions", body)
        return tries, str(answer.json()["session_id"])

    async def cost(self, session_id: str) -> int:
        """What GET shows of a session's cost, in millionths of a US dollar. Raises UnexpectedAnswer and
        httpx2.TransportError."""
        page = await self._client.get(f"/v1/sessions/{session_id}")
        return round(float(page["cost_usd"]) * 1_000_000)

    async def _taken(self, path: str, body: Json) -> tuple[int, httpx2.Response]:
        deadline = time.monotonic() + self._patience
        tries = 0
        while True:
            tries += 1
            said = await self._once(path, body)
            if isinstance(said, httpx2.Response):
                return tries, said
            if time.monotonic() > deadline:
                raise ChaosFailed(f"POST {path}: not taken in {self._patience:.0f} s: {said}")
            await asyncio.sleep(_PAUSE_S)

    async def _once(self, path: str, body: Json) -> httpx2.Response | str:
        """The answer when it was taken, else why it may be tried again."""
        try:
            answer = await self._client.http.post(path, json=body)
        except httpx2.TransportError as error:
            return repr(error)
        if answer.is_success or _is_settled(answer):
            return answer
        said = f"{answer.status_code} {answer.text[:300]}"
        if answer.status_code in (429, 502, 503, 504):
            return said
        raise ChaosFailed(f"POST {path}: {said}")

    async def follow(self, session_id: str, after: int) -> AsyncGenerator[Received, None]:
        """The session's events after a seq, as one connection gives them. Raises httpx2.TransportError; ends at
        once when the gateway can't serve it now."""
        path = f"/v1/sessions/{session_id}/events"
        with contextlib.suppress(UnexpectedAnswer):
            async with self._client.stream(path, after, _STREAM_SILENCE_S) as events:
                async for event in events:
                    yield event


def _is_settled(answer: httpx2.Response) -> bool:
    """Whether an answer to a tool call came again, or too late: its question went with what was killed."""
    words = (b"problem:already_answered", b"problem:no_longer_asked")
    return answer.status_code == 409 and any(word in answer.content for word in words)
