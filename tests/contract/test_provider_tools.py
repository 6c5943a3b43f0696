"""The worker's tools are declared to its own agent, once made and whenever they change, and to nobody else's."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any

import pytest
from anthropic import AsyncAnthropic

from infra.simulator.server import running
from infra.simulator.settings import Settings
from services.agent_worker.provider.anthropic import connect
from services.agent_worker.provider.opening import Openings
from services.agent_worker.provider.parts import Parts
from tests.builders import turn
from tests.fakes.releases import MemoryReleases
from tests.unit.session.specification import after

pytestmark = pytest.mark.contract
STATE = after(turn()).state


@pytest.fixture
async def client() -> AsyncIterator[AsyncAnthropic]:
    async with running(Settings(port=0)) as url:
        yield connect(api_key="key", base_url=url, sessions=5)


def tool(name: str, description: str = "Does it.") -> dict[str, Any]:
    schema = {"type": "object", "properties": {"n": {"type": "integer", "default": None}}}
    return {
        "type": "custom",
        "name": name,
        "description": description,
        "input_schema": schema,
    }


async def opened(client: AsyncAnthropic, *tools: dict[str, Any], agent: str | None = None) -> Any:
    """The agent of a session that a worker with these tools opens, as the session keeps it."""
    openings = Openings(
        client,
        Parts(
            client,
            agent=agent,
            environment=None,
            model="claude-sonnet-5",
            releases=MemoryReleases(),
            tools=tools,
        ),
    )
    made = await openings.open(STATE, look=False)
    return (await client.beta.sessions.retrieve(made.id)).agent


def named(agent: Any) -> dict[str, str]:
    return {tool.name: tool.description for tool in agent.tools if tool.type == "custom"}


async def test_a_new_agent_declares_the_workers_tools(client: AsyncAnthropic) -> None:
    agent = await opened(client, tool("one"), tool("two"))
    assert named(agent) == {"one": "Does it.", "two": "Does it."}


async def test_an_existing_agent_gets_changed_tools_and_keeps_the_rest(
    client: AsyncAnthropic,
) -> None:
    first = await opened(client, tool("one"), tool("two"))
    toolset = {"type": "agent_toolset_20260401"}
    of_others: Any = [toolset, tool("one"), tool("two"), tool("theirs")]
    await client.beta.agents.update(first.id, version=first.version, tools=of_others)
    agent = await opened(client, tool("two", "Does more."), tool("three"))
    assert agent.id == first.id
    assert named(agent) == {
        "one": "Does it.",
        "two": "Does more.",
        "theirs": "Does it.",
        "three": "Does it.",
    }
    assert "agent_toolset_20260401" in [tool.type for tool in agent.tools]


async def test_unchanged_tools_are_not_written_again(client: AsyncAnthropic) -> None:
    first = await opened(client, tool("one"))
    assert (await opened(client, tool("one"))).version == first.version
    assert (await opened(client)).version == first.version


async def test_somebody_elses_agent_is_left_alone(client: AsyncAnthropic) -> None:
    theirs = await client.beta.agents.create(name="theirs", model="claude-sonnet-5")
    agent = await opened(client, tool("one"), agent=theirs.id)
    assert (agent.id, named(agent), agent.version) == (theirs.id, {}, theirs.version)
