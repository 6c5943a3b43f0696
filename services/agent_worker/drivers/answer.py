"""What is put to a running turn: the answers it waits for, each once, and the interrupt.

A second result for a custom tool is accepted by the provider and makes it run and rest once more without a word
from the model: an idle that belongs to no turn. So an answer is looked for before it is given.
"""

from __future__ import annotations

from typing import Any

import msgspec
from anthropic import AsyncAnthropic

from services.agent_worker.drivers.failures import WIRE_ERRORS, explained, failure
from services.agent_worker.drivers.listing import newest_first
from services.agent_worker.drivers.send import post
from services.agent_worker.prompt import blocks
from shared.session import provider
from shared.session.inputs import ToolAnswered, ToolConfirmed
from shared.session.state import SessionState

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
