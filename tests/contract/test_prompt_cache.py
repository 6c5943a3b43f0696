"""An agent whose system prompt is too short for the cache, by the real SDK on the simulator."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest
from anthropic import AsyncAnthropic
from structlog.testing import capture_logs

from infra.simulator.server import running
from infra.simulator.settings import Settings
from services.agent_worker.provider.anthropic import connect
from services.agent_worker.provider.failures import WIRE_ERRORS
from services.agent_worker.provider.prompt_cache import check_prompt
from shared.cache_minimum import Counted, load
from shared.count_tokens import MESSAGE, count_tokens

pytestmark = pytest.mark.contract
MODEL = "claude-sonnet-5"  # caches from 1,024 tokens on
DAY = "2026-11-30"


@pytest.fixture
async def client() -> AsyncIterator[AsyncAnthropic]:
    async with running(Settings(port=0)) as url:
        client = connect(api_key="key", base_url=url, sessions=5)
        yield client
        await client.close()


async def agent(client: AsyncAnthropic, tokens: int, *, model: str = MODEL) -> str:
    """An agent with a system prompt that the simulator counts so many tokens for."""
    system = "x" * (4 * tokens - len(MESSAGE))
    return (await client.beta.agents.create(name="prompted", model=model, system=system)).id


async def said(client: AsyncAnthropic, asked: str) -> list[dict[str, object]]:
    with capture_logs() as lines:
        await check_prompt(client, asked, load(), DAY)
    return [dict(line) for line in lines]


async def test_what_is_missing_is_named(client: AsyncAnthropic) -> None:
    short = await agent(client, 1_000)
    (line,) = await said(client, short)
    assert line["event"] == "prompt_below_cache_minimum"
    assert (line["agent"], line["tokens"], line["missing"]) == (short, 1_000, 24)
    assert line["estimate"] is False


async def test_the_version_that_is_pinned_is_the_one_looked_at(client: AsyncAnthropic) -> None:
    id = await agent(client, 10)
    await client.beta.agents.update(id, version=1, system="y" * 5_000)
    assert [line["agent_version"] for line in await said(client, f"{id}@1")] == [1]
    assert await said(client, id) == []


async def test_nothing_is_said_of_a_long_prompt_or_an_unknown_minimum(
    client: AsyncAnthropic,
) -> None:
    assert await said(client, await agent(client, 1_024)) == []
    assert await said(client, await agent(client, 10, model="claude-opus-5-5")) == []


async def test_an_agent_that_is_not_there_stops_nobody(client: AsyncAnthropic) -> None:
    assert [line["event"] for line in await said(client, "agent_gone")] == ["prompt_not_checked"]


async def test_a_server_that_does_not_count_gets_an_estimate(client: AsyncAnthropic) -> None:
    elsewhere = client.with_options(base_url=f"{client.base_url}/elsewhere/")
    assert await count_tokens(elsewhere, MODEL, "x" * 401, failures=WIRE_ERRORS) == Counted(
        tokens=101, estimate=True
    )


async def test_no_prompt_has_no_tokens(client: AsyncAnthropic) -> None:
    assert await count_tokens(client, MODEL, "", failures=WIRE_ERRORS) == Counted(
        tokens=0, estimate=False
    )
