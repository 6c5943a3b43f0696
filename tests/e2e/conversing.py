"""Plays a conversation turn by turn over one stream, as a client does it."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Any

from infra.clients.gateway import Json, Received
from tests.e2e.api import TURN_ENDS, Api

TURN_TIMEOUT_S = 60.0
ANSWER = "Parcel 4711: handed over at number 12."


async def converse(
    api: Api, session_id: str, turns: Sequence[Any], previews: bool = False
) -> list[Received]:
    """Say each turn (ids `turn-1`, `turn-2`, …) when the one before has ended; what the stream said.

    Every question of the agent is answered: permissions are given, custom tools answered with
    ANSWER. Returns after the last turn's end and the session's `session.idled`.
    """
    heard: list[Received] = []
    path = f"/v1/sessions/{session_id}/events?after=0&previews={str(previews).lower()}"
    async with api.stream(path) as events:
        for number, content in enumerate(turns, start=1):
            await api.say(session_id, f"turn-{number}", content)
            async with asyncio.timeout(TURN_TIMEOUT_S):
                await _follow(api, session_id, f"turn-{number}", events, heard)
        async with asyncio.timeout(TURN_TIMEOUT_S):
            while heard[-1].type != "session.idled":
                heard.append(await anext(events))
    return heard


async def _follow(
    api: Api, session_id: str, turn_id: str, events: Any, heard: list[Received]
) -> None:
    answered = set[str]()
    async for event in events:
        heard.append(event)
        if event.type == "turn.requires_action":
            asked = event.body["data"]["pending_actions"]
            new = [action for action in asked if action["tool_use_id"] not in answered]
            answered |= {action["tool_use_id"] for action in new}
            await answer(api, session_id, new)
        if event.type in TURN_ENDS and event.body["turn_id"] == turn_id:
            return
    raise AssertionError(f"{session_id}: the stream ended before {turn_id} did")


async def answer(api: Api, session_id: str, actions: list[Json]) -> None:
    """Allow what asks for permission, answer what is ours to run."""
    base = f"/v1/sessions/{session_id}"
    for action in actions:
        if action["kind"] == "confirmation":
            confirmation = {"tool_use_id": action["tool_use_id"], "result": "allow"}
            await api.post(f"{base}/tool_confirmations", confirmation)
        else:
            result = {"custom_tool_use_id": action["tool_use_id"], "content": ANSWER}
            await api.post(f"{base}/tool_results", result)
