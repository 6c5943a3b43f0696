"""The driver of the provider and the sweeper of its orphans, made from settings.

Whoever imports this imports the provider's SDK, which is most of what a worker imports (2,500 modules, none of them
on demand): `main` does so in a thread, while the log and the database are connected.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from typing import NamedTuple

from anthropic import AsyncAnthropic

from services.agent_worker.governor.governor import Governor
from services.agent_worker.ports import (
    Bindings,
    Conversations,
    DefaultVaults,
    Profiles,
    Provider,
    Releases,
)
from services.agent_worker.provider.anthropic import AnthropicProvider, connect
from services.agent_worker.provider.lacking import require_served
from services.agent_worker.provider.messages.agents import Agent
from services.agent_worker.provider.messages.driver import MessagesProvider, RuntimeProvider
from services.agent_worker.provider.opening import Openings
from services.agent_worker.provider.parts import Parts
from services.agent_worker.provider.prompt_cache import check_prompt
from services.agent_worker.provider.sweep import Sweeper
from services.agent_worker.session.tools import Toolbox
from services.agent_worker.settings import Settings, WorkerSettings
from shared import cache_minimum
from shared.clock import utcnow
from shared.settings import ProviderSettings


class Kept(NamedTuple):
    """What the database keeps that the provider's drivers need."""

    profiles: Profiles
    releases: Releases
    vaults: DefaultVaults
    conversations: Conversations


@asynccontextmanager
async def provider_of(
    settings: Settings,
    toolbox: Toolbox,
    governor: Governor | None,
    kept: Kept,
    agents: Mapping[str, Agent],
) -> AsyncIterator[tuple[Provider, AnthropicProvider]]:
    """The provider, and the driver of Managed Agents that is in it; asked when the governor lets it. Its agent
    declares the tools of `toolbox`; sessions of `agents` run on the Messages API. Raises WrongSetting
    where its server lacks what the settings do not say; nobody asks where the default agent is one of these."""
    api = settings.provider
    client = connect(
        api_key=_secret(api),
        base_url=api.anthropic_base_url,
        sessions=settings.worker.concurrency,
        governor=governor,
    )
    tools = [tool.declaration for tool in toolbox]
    default = None if api.turnstile_agent in agents else api.turnstile_agent
    parts = Parts(
        client,
        agent=default,
        environment=api.turnstile_environment,
        model=api.turnstile_model,
        releases=kept.releases,
        tools=tools,
        vaults=kept.vaults,
        policy=settings.worker.scopes,
        cloud="cloud" not in api.without,
    )
    checking = _checking(client, default)
    try:
        if api.turnstile_agent not in agents:
            await require_served(client, api.without)
        openings = Openings(client, parts)
        managed = AnthropicProvider(
            client, openings, kept.profiles, clock=utcnow, chance=random.random
        )
        messages = MessagesProvider(
            client, kept.conversations, kept.profiles, agents, api.turnstile_agent, clock=utcnow
        )
        yield RuntimeProvider(managed, messages), managed
    finally:
        if checking is not None:
            checking.cancel()
            await asyncio.gather(checking, return_exceptions=True)
        await client.close()


def _checking(client: AsyncAnthropic, agent: str | None) -> asyncio.Task[None] | None:
    """Beside all else: no turn waits for it. The agent that Turnstile makes itself has no prompt to be short."""
    if agent is None:
        return None
    day = utcnow().date().isoformat()
    return asyncio.create_task(check_prompt(client, agent, cache_minimum.load(), day))


def sweeper_of(worker: WorkerSettings, provider: AnthropicProvider, bindings: Bindings) -> Sweeper:
    """Sweeps what a crash left at the provider, as often as the settings say."""
    return Sweeper(
        provider.marked_sessions,
        bindings,
        seconds=worker.orphan_sweep_seconds,
        age=worker.orphan_age_seconds,
        clock=utcnow,
        chance=random.random,
    )


def _secret(provider: ProviderSettings) -> str | None:
    return provider.anthropic_api_key.get_secret_value() if provider.anthropic_api_key else None
