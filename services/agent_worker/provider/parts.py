"""What a provider session is made of: its agent, its environment, its vaults, files and memory stores. The first
two are looked up or made where nobody named them, and remembered; what is not there any more is found out when a
session is refused for it.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextvars import Context
from typing import Any, Literal, NamedTuple

import anthropic
from anthropic import AsyncAnthropic, omit
from anthropic.types.beta import BetaCloudConfigParams, BetaLimitedNetworkParams

from services.agent_worker.ports import DefaultVaults, Releases
from services.agent_worker.provider.failures import WIRE_ERRORS, verdict
from shared import logs, metrics
from shared.grouped import Grouped
from shared.ownership import PROJECT, Scope, vaults_for
from shared.session.references import pinned
from shared.session.releases import version_for
from shared.session.resources import FileResource, RepositoryResource
from shared.session.state import SessionState

DEFAULT_NAME = "turnstile"
# An environment that was archived may keep its name: the next one is `turnstile-2`.
MOST_NAMES = 20
# So many vaults that are gone are remembered.
MOST_GONE = 10_000
# A turn that is refused for good fails within two seconds: so long the reason may be looked for.
LOOK_SECONDS = 1.5
# Of an environment that is made here: no host but registries of packages and the agent's MCP servers.
NETWORK: BetaLimitedNetworkParams = {
    "type": "limited",
    "allowed_hosts": [],
    "allow_package_managers": True,
    "allow_mcp_servers": True,
}
Kind = Literal["agent", "environment", "vault", "file", "memory_store"]
log = logs.get(__name__)


class Part(NamedTuple):
    """Something that a session refers to."""

    kind: Kind
    id: str


class Gone(NamedTuple):
    """A part that a session can't be made of, and why: `not_found` or `archived`."""

    part: Part
    how: str


class Parts:
    """The parts of sessions. Where `agent` or `environment` is None, one called `turnstile` is used, and made when
    there is none. That agent, and no other, is told of `tools`: declarations of custom tools. A named agent may be
    one of `releases`: then the session gets the version that is released for it. A session that names no vaults has
    those of `vaults`, by the `policy`. An environment that is made is a `cloud` one, else `self_hosted`.

    Sessions that need a default at the same time share one look for it. Raises what the SDK raises.
    """

    def __init__(
        self,
        client: AsyncAnthropic,
        *,
        agent: str | None,
        environment: str | None,
        model: str,
        releases: Releases,
        tools: Sequence[Any] = (),
        vaults: DefaultVaults | None = None,
        policy: Sequence[Scope] = (),
        cloud: bool = True,
    ) -> None:
        self._client = client
        self._vaults = vaults
        self._policy = policy
        self._named: dict[Kind, str | None] = {"agent": agent, "environment": environment}
        self._model = model
        self._cloud = cloud
        self._tools = tools
        self._releases = releases
        self._known: dict[Kind, str] = {}
        self._replaced: dict[Part, str] = {}
        self._looking: dict[Kind, asyncio.Task[str]] = {}
        self._looked = Grouped(self._look)

    async def of(self, state: SessionState) -> tuple[Part, ...]:
        """Agent, environment, vaults, and of its resources those that have ids, in this order. Raises Transient
        without a database."""
        environment = self._named["environment"] or await self._default("environment")
        named = state.agent or self._named["agent"]
        agent = await self._released(named, state) if named else await self._default("agent")
        vaults = (Part("vault", id) for id in await self._vaults_of(state))
        return (Part("agent", agent), Part("environment", environment), *vaults, *_named(state))

    async def _vaults_of(self, state: SessionState) -> Sequence[str]:
        """Those that the session names, else those that were made for it and are there, as far as is known."""
        if state.vault_ids is not None or self._vaults is None or not self._policy:
            return state.vault_ids or ()
        project = (state.metadata or {}).get(PROJECT, "")
        found = await self._vaults.of(state.tenant_id, project, state.user_id)
        ids = vaults_for(found, self._policy, project, state.user_id)
        return [id for id in ids if Part("vault", id) not in self._replaced]

    async def gone(
        self, parts: Sequence[Part], defaults: Sequence[Part], refusal: str
    ) -> list[Gone] | None:
        """Which of the parts are not there: of those that the provider's words name, or of all where these name
        none; where one is of the `defaults`, of those too. None when that can't be told in time."""
        named = [part for part in parts if pinned(part.id)[0] in refusal]
        both = defaults if set(named) & set(defaults) else ()
        asked = list(dict.fromkeys((*named, *both))) or list(parts)
        try:
            async with asyncio.timeout(LOOK_SECONDS):
                found = await asyncio.gather(*map(self._how, asked))
        except (*WIRE_ERRORS, TimeoutError):
            return None
        return [Gone(part, how) for part, how in zip(asked, found, strict=True) if how]

    def defaults(self, parts: Sequence[Part], state: SessionState) -> list[Part]:
        """Those of a session's parts that nobody named, neither the client nor the settings."""
        return [
            part
            for part in parts
            if (part.kind == "vault" and state.vault_ids is None)
            or (
                part.kind in self._named
                and self._named[part.kind] is None
                and not (part.kind == "agent" and state.agent)
            )
        ]

    def forget(self, gone: Sequence[Gone]) -> None:
        """Look up or make defaults anew that are gone, the next time they are needed."""
        for part, how in gone:
            if part.kind == "vault":
                self._leave_out(part, how)
            elif self._known.get(part.kind) == part.id:  # else another session was quicker
                del self._known[part.kind]
                self._replaced[part] = how
                metrics.inc("turnstile_provider_defaults_replaced_total", kind=part.kind)
                log.warning("default_gone", kind=part.kind, id=part.id, reason=how)

    def _leave_out(self, vault: Part, how: str) -> None:
        while len(self._replaced) >= MOST_GONE:
            del self._replaced[next(iter(self._replaced))]
        self._replaced[vault] = how
        log.warning("default_gone", kind=vault.kind, id=vault.id, reason=how)

    async def _released(self, named: str, state: SessionState) -> str:
        """The agent that a name stands for in this session, as `ID@VERSION`; an id stands for itself."""
        name, version = pinned(named)
        release = await self._releases.of(state.tenant_id, name)
        if release is None:
            return named
        key = (state.tenant_id, state.session_id)
        return f"{release.agent_id}@{version or version_for(release, key)}"

    # ---- what is there ----------------------------------------------------------------------------------------

    async def _how(self, part: Part) -> str:
        """How a part is gone, "" when it is there; what was is not asked for again."""
        return self._replaced.get(part) or await self._looked(part)

    async def _look(self, parts: Sequence[Part]) -> list[str]:
        """How each part is gone, "" for those that are there; each is asked for once."""
        once = list(dict.fromkeys(parts))
        found = dict(zip(once, await asyncio.gather(*map(self._state, once)), strict=True))
        return [found[part] for part in parts]

    async def _state(self, part: Part) -> str:
        try:
            found = await self._retrieved(part)
        except anthropic.APIStatusError as error:
            if (
                verdict(error.status_code, error.error_code, typed=error.type is not None)
                != "final"
            ):
                raise
            return "not_found"
        return (
            "" if getattr(found, "archived_at", None) is None else "archived"
        )  # of files there is none

    async def _retrieved(self, part: Part) -> Any:
        beta = self._client.beta
        if part.kind == "agent":
            id, version = pinned(part.id)
            return await beta.agents.retrieve(id, version=omit if version is None else version)
        if part.kind == "environment":
            return await beta.environments.retrieve(part.id)
        if part.kind == "file":
            return await beta.files.retrieve_metadata(part.id)
        if part.kind == "memory_store":
            return await beta.memory_stores.retrieve(part.id)
        return await beta.vaults.retrieve(part.id)

    # ---- defaults ---------------------------------------------------------------------------------------------

    async def _default(self, kind: Kind) -> str:
        if (known := self._known.get(kind)) is not None:
            return known
        looking = self._looking.get(kind)
        if looking is None:
            # In a context of its own: it is nobody's work alone, and goes on when the one who asked is gone.
            looking = asyncio.create_task(self._learn(kind), context=Context())
            looking.add_done_callback(lambda task: task.cancelled() or task.exception())
            self._looking[kind] = looking
        return await asyncio.shield(looking)

    async def _learn(self, kind: Kind) -> str:
        find: dict[Kind, Callable[[], Awaitable[str]]] = {
            "agent": self._default_agent,
            "environment": self._default_environment,
        }
        try:
            self._known[kind] = found = await find[kind]()
        finally:
            del self._looking[kind]
        log.info("default_found", kind=kind, id=found)
        return found

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
        names = [DEFAULT_NAME, *(f"{DEFAULT_NAME}-{n}" for n in range(2, MOST_NAMES + 1))]
        async for name, id in self._environments():
            if name in names:
                return id
        for name in names:
            try:
                return await self._make_environment(name)
            except anthropic.ConflictError:
                # Made by another worker meanwhile, or an archived one has it: it keeps its name.
                async for taken, id in self._environments():
                    if taken == name:
                        return id
                if name == names[-1]:
                    raise
        raise AssertionError("the last name returns or raises")

    async def _environments(self) -> AsyncIterator[tuple[str, str]]:
        async for environment in self._client.beta.environments.list():
            if environment.archived_at is None:
                yield environment.name, environment.id

    async def _make_environment(self, name: str) -> str:
        cloud: BetaCloudConfigParams = {"type": "cloud", "networking": NETWORK}
        made = await self._client.beta.environments.create(
            name=name, config=cloud if self._cloud else {"type": "self_hosted"}
        )
        return made.id


def _named(state: SessionState) -> list[Part]:
    """The session's resources that have ids; repositories are not the provider's."""
    found = [
        Part("file", one.file_id)
        if isinstance(one, FileResource)
        else Part("memory_store", one.memory_store_id)
        for one in state.resources
        if not isinstance(one, RepositoryResource)
    ]
    return list(dict.fromkeys(found))


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
