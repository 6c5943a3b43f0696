"""Putting a message to a session exactly once, over an API without idempotency keys.

The send is never retried blindly: not by the SDK (`max_retries=0`), not by us. When its outcome is not known, the
session's user messages are listed newest first, without time filters (their times are those of processing), down
to the last one that was recorded; ours is there or it is not. One turn in flight per provider session, under the
lease, is what makes that comparison exact.
"""

from __future__ import annotations

import asyncio
from typing import Any

import msgspec
from anthropic import AsyncAnthropic
from msgspec import Struct

from services.agent_worker.ports import ProviderFailure
from services.agent_worker.provider.failures import WIRE_ERRORS, explained, failure, may_have_landed
from services.agent_worker.provider.posting import post
from services.agent_worker.provider.stream import newest_first
from services.agent_worker.session.prompt import blocks
from shared import metrics, telemetry
from shared.session import provider
from shared.session.inputs import ToolAnswered, ToolConfirmed
from shared.session.state import SessionState

MAX_MESSAGES = 200
MAX_CHARACTERS = 48_000
HEADING = "This conversation began in an earlier session. What was said there, oldest first:"
LOST = (
    "This conversation began in an earlier session. What was said there is not available any more."
)
SPEAKERS = {"user.message": "User", "agent.message": "You"}


class _Block(Struct, frozen=True):
    type: str = ""
    text: str = ""


class _Past(Struct, frozen=True):
    type: str = ""
    content: list[_Block] = []


_past = msgspec.json.Decoder(_Past, strict=False)


async def carried(client: AsyncAnthropic, session: str) -> dict[str, Any]:
    """A text block with what was said in `session`, newest kept when it is long. Raises ProviderFailure when that
    can't be told at the moment."""
    try:
        async for page in newest_first(client, session, types=list(SPEAKERS), limit=MAX_MESSAGES):
            return _block(page)
    except WIRE_ERRORS as error:
        refused = failure(error, session=True)
        if not (refused.final or refused.lost):
            raise refused from error
    return {"type": "text", "text": LOST}


def _block(newest_first: list[bytes]) -> dict[str, Any]:
    lines: list[str] = []
    room = MAX_CHARACTERS
    for raw in newest_first:
        message = _past.decode(raw)
        said = "\n".join(block.text for block in message.content if block.type == "text")
        room -= len(said)
        if room < 0:
            break
        lines.append(f"{SPEAKERS.get(message.type, 'User')}: {said}")
    return {"type": "text", "text": "\n\n".join([HEADING, *reversed(lines)])}


# A request that timed out on our side may still be on its way in: looked for after each of these seconds.
GRACE = (0.0, 0.5, 1.5)


class _Message(Struct, frozen=True):
    id: str = ""
    content: Any = None


_message = msgspec.json.Decoder(_Message)


async def send_message(
    client: AsyncAnthropic, state: SessionState, content: Any, *, look: bool
) -> None:
    """See Provider.send."""
    session, content = state.provider_session_id or "", blocks(content)
    if look and await _landed(client, state, content, grace=(0.0,)):
        _came("found")
        return
    past = [await carried(client, state.rotated_from)] if state.rotated_from else []
    message = {"type": "user.message", "content": [*past, *content]}
    try:
        await post(client, session, [message])
    except WIRE_ERRORS as error:
        unknown = may_have_landed(error)
        _came("ambiguous" if unknown else "refused")
        if not (unknown and await _landed(client, state, content, grace=GRACE)):
            raise _naming(content, await explained(client, session, error)) from error
        _came("found")
    else:
        _came("sent")


def _naming(content: list[Any], refused: ProviderFailure) -> ProviderFailure:
    """The refusal of a message for good; what it refers to is named, since that may be what is not there."""
    sources = (block.get("source") for block in content if isinstance(block, dict))
    files = [str(s["file_id"]) for s in sources if isinstance(s, dict) and "file_id" in s]
    if refused.final and files:
        refused.detail += f" (file {', '.join(files)})"
    return refused


def _came(outcome: str) -> None:
    """Note on the span what became of the send."""
    telemetry.note({"turnstile.send.outcome": outcome})


async def _landed(
    client: AsyncAnthropic, state: SessionState, content: Any, *, grace: tuple[float, ...]
) -> bool:
    """Whether a message with this content is among those not recorded yet. Raises ProviderFailure when the list
    can't be had: then nothing is known, and the next attempt looks again."""
    try:
        for wait in grace:
            await asyncio.sleep(wait)
            if await _listed(client, state, content):
                metrics.inc("turnstile_provider_sends_reconciled_total", outcome="found")
                return True
    except WIRE_ERRORS as error:
        raise failure(error, session=True) from error
    metrics.inc("turnstile_provider_sends_reconciled_total", outcome="absent")
    return False


async def _listed(client: AsyncAnthropic, state: SessionState, content: Any) -> bool:
    session = state.provider_session_id or ""
    async for page in newest_first(client, session, types=["user.message"], limit=20):
        for raw in page:
            message = _message.decode(raw)
            if message.id in state.prompts:
                return False
            if _is(message.content, content, carries=state.rotated_from is not None):
                return True
    return False


def _is(theirs: Any, ours: list[Any], *, carries: bool) -> bool:
    """Whether a listed message is the one with our content, behind a block with the past where one was carried."""
    if carries and isinstance(theirs, list) and len(theirs) == len(ours) + 1:
        theirs = theirs[1:]
    return covers(theirs, ours)


def covers(theirs: Any, ours: Any) -> bool:
    """Whether what the provider keeps is what we sent; it may have added fields of its own."""
    if isinstance(ours, dict):
        return isinstance(theirs, dict) and all(
            key in theirs and covers(theirs[key], value) for key, value in ours.items()
        )
    if isinstance(ours, list):
        return (
            isinstance(theirs, list) and len(theirs) == len(ours) and all(map(covers, theirs, ours))
        )
    return bool(theirs == ours)


# Answers looked through: a call that waits is among the newest, and so is its answer.
LOOKED_AT = 100


async def give_answer(
    client: AsyncAnthropic, state: SessionState, request: ToolConfirmed | ToolAnswered
) -> None:
    """See Provider.answer. An outcome that is not known is a failure: whoever tries again looks first."""
    session, event = state.provider_session_id or "", _event(request)
    try:
        given = await _given(client, session, event)
    except WIRE_ERRORS as error:
        raise failure(error, session=True) from error
    if not given:
        await _put(client, session, event)


async def interrupt(client: AsyncAnthropic, state: SessionState) -> None:
    """See Provider.interrupt."""
    await _put(client, state.provider_session_id or "", {"type": "user.interrupt"})


async def _put(client: AsyncAnthropic, session: str, event: dict[str, Any]) -> None:
    try:
        await post(client, session, [event])
    except WIRE_ERRORS as error:
        raise await explained(client, session, error) from error


async def _given(client: AsyncAnthropic, session: str, event: dict[str, Any]) -> bool:
    call = provider.answered(msgspec.json.encode(event))
    async for page in newest_first(client, session, types=[event["type"]], limit=LOOKED_AT):
        return any(provider.answered(raw) == call for raw in page)
    return False


def _event(request: ToolConfirmed | ToolAnswered) -> dict[str, Any]:
    if isinstance(request, ToolAnswered):
        return {
            "type": "user.custom_tool_result",
            "custom_tool_use_id": request.custom_tool_use_id,
            "content": blocks(request.content),
            "is_error": request.is_error,
        }
    answer = {
        "type": "user.tool_confirmation",
        "tool_use_id": request.tool_use_id,
        "result": request.result,
    }
    if request.deny_message is not None:
        answer["deny_message"] = request.deny_message
    return answer
