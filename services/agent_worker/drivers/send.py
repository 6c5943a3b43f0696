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

from services.agent_worker.drivers.carry import carried
from services.agent_worker.drivers.failures import WIRE_ERRORS, explained, failure, may_have_landed
from services.agent_worker.drivers.listing import newest_first
from services.agent_worker.ports import ProviderFailure
from services.agent_worker.prompt import blocks
from shared import metrics, telemetry
from shared.session.state import SessionState

# A request that timed out on our side may still be on its way in: looked for after each of these seconds.
GRACE = (0.0, 0.5, 1.5)
SEND_TIMEOUT = 30.0


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


async def post(client: AsyncAnthropic, session: str, events: list[Any]) -> None:
    """One POST of events, never repeated. Raises what the SDK raises."""
    raw = client.with_options(max_retries=0).beta.sessions.events.with_raw_response
    response = await raw.send(session_id=session, events=events, timeout=SEND_TIMEOUT)
    await response.read()


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
