"""The past of a conversation as the first block of a message, for a session that goes on in another provider
session.

The old session is asked for it: one that was terminated or archived still lists its events. Of one that is gone,
only the loss can be told.
"""

from __future__ import annotations

from typing import Any

import msgspec
from anthropic import AsyncAnthropic
from msgspec import Struct

from services.agent_worker.drivers.failures import WIRE_ERRORS, failure
from services.agent_worker.drivers.listing import newest_first

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


class _Message(Struct, frozen=True):
    type: str = ""
    content: list[_Block] = []


_message = msgspec.json.Decoder(_Message, strict=False)


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
        message = _message.decode(raw)
        said = "\n".join(block.text for block in message.content if block.type == "text")
        room -= len(said)
        if room < 0:
            break
        lines.append(f"{SPEAKERS.get(message.type, 'User')}: {said}")
    return {"type": "text", "text": "\n\n".join([HEADING, *reversed(lines)])}
