"""Making provider sessions, finding those that a crash left behind, and closing them."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Any

from anthropic import AsyncAnthropic, omit

from services.agent_worker.drivers.declared import tell_tools
from services.agent_worker.drivers.failures import WIRE_ERRORS, failure, may_have_landed
from services.agent_worker.drivers.strays import Strays
from services.agent_worker.ports import ProviderSession
from shared import telemetry
from shared.orphans import MARK, mark
from shared.session.state import SessionState

MAX_METADATA = 16
DEFAULT_NAME = "turnstile"


class Openings:
    """Makes provider sessions on the agent and the environment that settings name.

    Where they name none, an agent and an environment called `turnstile` are used, and made when there are none.
    That agent, and no other, is told of `tools`: declarations of custom tools.
    """

    def __init__(
        self,
        client: AsyncAnthropic,
        *,
        agent: str | None,
        environment: str | None,
        model: str,
        tools: Sequence[Any] = (),
    ) -> None:
        self._client = client
        self._agent = agent
        self._environment = environment
        self._model = model
        self._tools = tools
        self._lock = asyncio.Lock()
        self._strays = Strays(client)

    async def open(self, state: SessionState, *, look: bool) -> ProviderSession:
        """See Provider.open."""
        try:
            agent, environment = await self._defaults(state)
            found = await self._strays.find(state) if look else None
            telemetry.note({"turnstile.adopted": found is not None})
            return found or await self._create(state, agent, environment)
        except WIRE_ERRORS as error:
            raise failure(error) from error

    async def _create(self, state: SessionState, agent: str, environment: str) -> ProviderSession:
        raw = self._client.with_options(max_retries=0).beta.sessions
        try:
            made = await raw.create(
                agent=_pinned(agent),
                environment_id=environment,
                metadata=_metadata(state),
                title=state.title or omit,
                vault_ids=state.vault_ids or omit,
                budget=_budget(state) or omit,
                timeout=30.0,
            )
        except WIRE_ERRORS as error:
            if may_have_landed(error) and (found := await self._strays.find(state)) is not None:
                telemetry.note({"turnstile.adopted": True})
                return found
            raise
        return _bound(made)

    async def _defaults(self, state: SessionState) -> tuple[str, str]:
        async with self._lock:
            if self._environment is None:
                self._environment = await self._default_environment()
            if state.agent is None and self._agent is None:
                self._agent = await self._default_agent()
        return state.agent or self._agent or "", self._environment

    async def _default_agent(self) -> str:
        async for agent in self._client.beta.agents.list():
            if agent.name == DEFAULT_NAME and agent.archived_at is None:
                await tell_tools(self._client, agent, self._tools)
                return agent.id
        made = await self._client.beta.agents.create(
            name=DEFAULT_NAME, model=self._model, tools=self._tools or omit
        )
        return made.id

    async def _default_environment(self) -> str:
        async for environment in self._client.beta.environments.list():
            if environment.name == DEFAULT_NAME:
                return environment.id
        made = await self._client.beta.environments.create(
            name=DEFAULT_NAME, config={"type": "cloud", "networking": {"type": "unrestricted"}}
        )
        return made.id


async def close_session(client: AsyncAnthropic, session: str, *, erase: bool) -> None:
    """See Provider.close."""
    try:
        await _archive(client, session)
        if erase:
            await client.beta.sessions.delete(session)
    except WIRE_ERRORS as error:
        refused = failure(error)
        if refused.lost:
            return
        # 400 while it runs: its status lags behind its events, so it is worth another try.
        refused.final = False
        raise refused from error


async def _archive(client: AsyncAnthropic, session: str) -> None:
    """Archive a session once. Raises what the SDK raises when it is not archived afterwards."""
    try:
        await client.beta.sessions.archive(session)
    except WIRE_ERRORS:
        found = await client.beta.sessions.retrieve(session)
        if found.archived_at is None:
            raise


def _bound(session: Any) -> ProviderSession:
    return ProviderSession(id=session.id, agent=session.agent.id, model=session.agent.model.id)


def _pinned(agent: str) -> Any:
    """`ID` is the agent's newest version, `ID@7` its seventh."""
    id, at, version = agent.rpartition("@")
    if not at or not version.isdecimal():
        return agent
    return {"type": "agent", "id": id, "version": int(version)}


def _metadata(state: SessionState) -> dict[str, str]:
    """Ours first: a sixteenth pair of the user's stays with Turnstile only."""
    theirs = list((state.metadata or {}).items())[: MAX_METADATA - 1]
    return {**dict(theirs), MARK: mark(state.tenant_id, state.session_id)}


def _budget(state: SessionState) -> Any:
    """The provider counts whole US cents, as a string."""
    if state.budget_usd is None:
        return None
    cents = max(1, round(state.budget_usd * 100))
    return {"type": "limit", "max_list_cost": {"amount": str(cents), "currency": "USD"}}
