"""The tool calls that a session says it waits for."""

from __future__ import annotations

import msgspec

from shared.session.events import TurnRequiresAction
from tests.unit.agent_worker.outside import Outside


async def calls(outside: Outside, *, count: int = 1) -> list[str]:
    """Ids of the calls that wait, oldest first, once the `count`-th `turn.requires_action` was said."""
    said = await outside.said("turn.requires_action", count=count)
    asked = msgspec.json.decode(said.data, type=TurnRequiresAction)
    return [action.tool_use_id for action in asked.pending_actions]
