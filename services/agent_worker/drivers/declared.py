"""Whether an agent's configuration declares the custom tools that the worker runs: it calls only those."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from anthropic import AsyncAnthropic


async def tell_tools(client: AsyncAnthropic, agent: Any, tools: Sequence[dict[str, Any]]) -> None:
    """Make the agent's declarations of `tools` those of now; its other tools stay. Sessions opened from then on use
    them. Raises what the SDK raises: 409 when somebody else changed the agent meanwhile."""
    known = [tool.model_dump(mode="json", exclude_none=True) for tool in agent.tools]
    ours = {tool["name"]: tool for tool in tools}
    if all(tool in known for tool in tools):
        return
    others = [tool for tool in known if tool["type"] != "custom" or tool["name"] not in ours]
    every: list[Any] = [*others, *tools]
    await client.beta.agents.update(agent.id, version=agent.version, tools=every)
