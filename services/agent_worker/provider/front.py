"""What is put in front of the first message of a provider session: what is known of the user, and what was said in
the provider session before it. The user's own content always comes last.

Both are text blocks that begin with words of ours, by which they are known again in what the provider lists.
"""

from __future__ import annotations

from typing import Any

import msgspec
from anthropic import AsyncAnthropic
from msgspec import Struct

from services.agent_worker.ports import Profiles
from services.agent_worker.provider.failures import WIRE_ERRORS, failure
from services.agent_worker.provider.stream import newest_first
from services.agent_worker.session.prompt import ABOUT, about_user
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


async def put_in_front(
    client: AsyncAnthropic, profiles: Profiles, state: SessionState
) -> list[dict[str, Any]]:
    """The blocks that go before the content that is sent next: none once the provider session has heard of them.

    Raises ProviderFailure, or Transient when the profile can't be had.
    """
    if state.prompts and not state.rotated_from:
        return []
    known = await profiles.of(state.tenant_id, state.user_id)
    front = [about_user(known)] if known else []
    if state.rotated_from:
        front.append(await _carried(client, state.rotated_from))
    return front


def is_front(block: Any) -> bool:
    """Whether a block of a listed message is one of those."""
    text = block.get("text") if isinstance(block, dict) else None
    return isinstance(text, str) and text.startswith((ABOUT, HEADING, LOST))


async def _carried(client: AsyncAnthropic, session: str) -> dict[str, Any]:
    """A text block with what was said in `session`, newest kept when it is long. Raises ProviderFailure when that
    can't be told at the moment."""
    try:
        async for page in newest_first(client, session, types=list(SPEAKERS), limit=MAX_MESSAGES):
            return told(page)
    except WIRE_ERRORS as error:
        refused = failure(error, session=True)
        if not (refused.final or refused.lost):
            raise refused from error
    return {"type": "text", "text": LOST}


def told(newest_first: list[bytes]) -> dict[str, Any]:
    """A text block with what these messages say, the newest kept when it is long."""
    lines: list[str] = []
    room = MAX_CHARACTERS
    for raw in newest_first:
        message = _past.decode(raw)
        said = "\n".join(block.text for block in message.content if _is_said(block))
        room -= len(said)
        if room < 0:
            break
        lines.append(f"{SPEAKERS.get(message.type, 'User')}: {said}")
    return {"type": "text", "text": "\n\n".join([HEADING, *reversed(lines)])}


def _is_said(block: _Block) -> bool:
    """Texts of the conversation; of the user's profile the newest is told anyway."""
    return block.type == "text" and not block.text.startswith(ABOUT)
