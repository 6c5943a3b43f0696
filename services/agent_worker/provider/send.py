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

from services.agent_worker.ports import Profiles, ProviderFailure
from services.agent_worker.provider.calls import post
from services.agent_worker.provider.failures import WIRE_ERRORS, explained, failure, may_have_landed
from services.agent_worker.provider.front import is_front, put_in_front
from services.agent_worker.provider.stream import newest_first
from services.agent_worker.session.prompt import blocks
from shared import metrics, telemetry
from shared.session import provider
from shared.session.inputs import ToolAnswered, ToolConfirmed
from shared.session.outcome import outcome_in
from shared.session.state import SessionState

# A request that timed out on our side may still be on its way in: looked for after each of these seconds.
GRACE = (0.0, 0.5, 1.5)


class _Message(Struct, frozen=True):
    id: str = ""
    content: Any = None
    description: Any = None
    rubric: Any = None


_message = msgspec.json.Decoder(_Message)


async def send_message(
    client: AsyncAnthropic, profiles: Profiles, state: SessionState, content: Any, *, look: bool
) -> None:
    """See Provider.send. Raises Transient when the user's profile can't be had: nothing was sent then."""
    session, content = state.provider_session_id or "", blocks(content)
    if look and await _landed(client, state, content, grace=(0.0,)):
        _came("found")
        return
    front = await put_in_front(client, profiles, state)
    try:
        await post(client, session, [_telling(front, content)])
    except WIRE_ERRORS as error:
        unknown = may_have_landed(error)
        _came("ambiguous" if unknown else "refused")
        if not (unknown and await _landed(client, state, content, grace=GRACE)):
            raise _naming(content, await explained(client, session, error)) from error
        _came("found")
    else:
        _came("sent")


def _telling(front: list[dict[str, Any]], content: list[Any]) -> dict[str, Any]:
    """The event that tells the agent this; what is put in front of an outcome begins its description."""
    outcome = outcome_in(content)
    if outcome is None:
        return {"type": "user.message", "content": [*front, *content]}
    description = "\n\n".join([*(block["text"] for block in front), outcome["description"]])
    return {**outcome, "type": "user.define_outcome", "description": description}


def _naming(content: list[Any], refused: ProviderFailure) -> ProviderFailure:
    """The refusal of a message for good; what it refers to is named, since that may be what is not there."""
    told = [block for block in content if isinstance(block, dict)]
    sources = (block.get("source") or block.get("rubric") for block in told)
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
    async for page in newest_first(client, session, types=sorted(provider.TELLING), limit=20):
        for raw in page:
            message = _message.decode(raw)
            if message.id in state.prompts:
                return False
            if _is_told(message, content):
                return True
    return False


def _is_told(message: _Message, ours: list[Any]) -> bool:
    outcome = outcome_in(ours)
    if outcome is None:
        return _is(message.content, ours)
    description = str(message.description or "")
    return covers(message.rubric, outcome["rubric"]) and description.endswith(
        outcome["description"]
    )


def _is(theirs: Any, ours: list[Any]) -> bool:
    """Whether a listed message is the one with our content. What was put in front of it does not count: the
    profile, and what is kept of the past, may have changed since."""
    if not isinstance(theirs, list):
        return False
    front, own = theirs[: -len(ours)], theirs[-len(ours) :]
    return all(map(is_front, front)) and covers(own, ours)


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
