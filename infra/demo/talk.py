"""Plays one conversation: open, follow, send a turn, wait for its end, send the next."""

import asyncio
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass, field
from typing import Any

from infra.clients.gateway import Gateway, Received
from infra.demo.conversations import Conversation
from infra.demo.hearing import Hearing

TURN_TIMEOUT_S = 60.0
_ENDS = ("turn.completed", "turn.interrupted", "turn.refused", "turn.failed")
_LOOKED_UP = "Parcel 4711: handed over to the neighbour at number 12 this morning."

Speak = Callable[[str], None]


class DemoFailed(RuntimeError):
    """The demo did not show what it should; the message says what was missing."""


@dataclass(slots=True)
class Talk:
    """A conversation as it was played. `turn_ids` in order."""

    session_id: str
    conversation: Conversation
    turn_ids: list[str] = field(default_factory=list)


async def play(gateway: Gateway, conversation: Conversation, run: str, speak: Speak) -> Talk:
    """Play a conversation to its end; every reply is complete on return.

    Raises DemoFailed naming the turn that did not complete in time or at all.
    """
    session_id = f"demo-{run}-{conversation.conversation_id}"
    talk = Talk(session_id, conversation)
    speak(f"\n── {conversation.title} ({conversation.lang}, {session_id})\n")
    opening = {
        "session_id": session_id,
        "user_id": f"user-{conversation.lang}",
        "title": conversation.title,
        "metadata": {"lang": conversation.lang},
    }
    await gateway.post("/v1/sessions", opening, 201)
    async with gateway.stream(f"/v1/sessions/{session_id}/events?previews=true") as stream:
        for number, text in enumerate(conversation.turns, start=1):
            turn_id = f"turn-{number}"
            await _turn(gateway, stream, talk, turn_id, text, speak)
            talk.turn_ids.append(turn_id)
    return talk


async def _turn(
    gateway: Gateway,
    stream: AsyncIterator[Received],
    talk: Talk,
    turn_id: str,
    text: str,
    speak: Speak,
) -> None:
    base = f"/v1/sessions/{talk.session_id}"
    speak(f"\nuser:  {text}\nagent: ")
    await gateway.post(f"{base}/turns", {"content": text, "turn_id": turn_id}, 202)
    try:
        async with asyncio.timeout(TURN_TIMEOUT_S):
            await _until_end(gateway, stream, base, turn_id, speak)
            turn = await _settled(gateway, f"{base}/turns/{turn_id}")
    except TimeoutError:
        state = await gateway.get(f"{base}/turns/{turn_id}")
        raise DemoFailed(
            f"{talk.session_id} {turn_id}: no end after {TURN_TIMEOUT_S:.0f} s, {state}"
        ) from None
    if turn["status"] != "completed" or not turn["reply"]:
        raise DemoFailed(f"{talk.session_id} {turn_id}: {turn['status']}, {turn['error']}")


async def _until_end(
    gateway: Gateway, stream: AsyncIterator[Received], base: str, turn_id: str, speak: Speak
) -> None:
    hearing, answered = Hearing(), set[str]()
    async for event in stream:
        data = event.body.get("data") or {}
        if event.seq is None:
            speak(_indented(hearing.preview(data)))
        elif event.type == "agent.message" and not event.body.get("thread_id"):
            speak(_indented(hearing.message(data) + "\n"))
        elif event.type in ("agent.tool_use", "agent.custom_tool_use"):
            speak(f"[{data.get('name')}] ")
        elif event.type == "turn.requires_action":
            new = [one for one in data["pending_actions"] if one["tool_use_id"] not in answered]
            answered |= {action["tool_use_id"] for action in new}
            await _answer(gateway, base, new, speak)
        elif event.type in _ENDS and event.body.get("turn_id") == turn_id:
            speak(f"[{event.type}]\n")
            return
    raise DemoFailed(f"{base}: the event stream ended before {turn_id} did")


async def _answer(gateway: Gateway, base: str, actions: list[dict[str, Any]], speak: Speak) -> None:
    """Allow what waits for permission, and run the tools that are ours."""
    for action in actions:
        if action["kind"] == "confirmation":
            speak(f"[{action['name']} allowed] ")
            body = {"tool_use_id": action["tool_use_id"], "result": "allow"}
            await gateway.post(f"{base}/tool_confirmations", body, 202)
        else:
            speak(f"[{action['name']} answered] ")
            result = {"custom_tool_use_id": action["tool_use_id"], "content": _LOOKED_UP}
            await gateway.post(f"{base}/tool_results", result, 202)


async def _settled(gateway: Gateway, path: str) -> dict[str, Any]:
    """The turn once its own page shows the end too (the page may be a moment behind)."""
    while True:
        turn = await gateway.get(path)
        if turn["ended_at"]:
            return turn
        await asyncio.sleep(0.05)


def _indented(text: str) -> str:
    return text.replace("\n", "\n       ")
