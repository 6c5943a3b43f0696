"""Everybody comes at once: what a gateway says to a crowd on an idle stack."""

from __future__ import annotations

import asyncio
from collections import Counter

import pytest

from infra.clients.gateway import Received
from tests.e2e.api import TURN_ENDS, Api

pytestmark = pytest.mark.e2e
CLIENTS = 200
OPENINGS = 500
PATIENCE_S = 90.0


async def test_two_hundred_clients_at_once_open_listen_and_are_answered(
    api: Api, session_id: str
) -> None:
    async def client(number: int) -> list[Received]:
        own = f"{session_id}-{number}"
        await api.open(own)
        heard, _ = await asyncio.gather(_until_end(api, own), api.say(own, "t1", "script: reply"))
        return heard

    told = await asyncio.gather(*(client(number) for number in range(CLIENTS)))
    for heard in told:
        seqs = [event.seq for event in heard if event.seq is not None]
        assert seqs == list(range(1, len(seqs) + 1))
        assert heard[-1].type == "turn.completed"
    pages = await asyncio.gather(*(api.turn(f"{session_id}-{n}", "t1") for n in range(CLIENTS)))
    assert Counter(page["status"] for page in pages) == {"completed": CLIENTS}


async def test_five_hundred_sessions_are_opened_at_once(api: Api, session_id: str) -> None:
    async def opened(number: int) -> int:
        wish = {"session_id": f"{session_id}-{number}", "user_id": "u1"}
        return (await api.http.post("/v1/sessions", json=wish)).status_code

    first = await asyncio.gather(*(opened(number) for number in range(OPENINGS)))
    assert Counter(first) == {201: OPENINGS}
    again = await asyncio.gather(*(opened(number) for number in range(OPENINGS)))
    assert Counter(again) == {200: OPENINGS}


async def _until_end(api: Api, session_id: str) -> list[Received]:
    """What a stream from the beginning says until the first turn's end."""
    heard: list[Received] = []
    path = f"/v1/sessions/{session_id}/events"
    async with asyncio.timeout(PATIENCE_S), api.stream(path) as events:
        async for event in events:
            heard.append(event)
            if event.type in TURN_ENDS:
                return heard
    raise AssertionError(f"{session_id}: the stream ended after {len(heard)} events")
