"""GET /v1/agents: the agents that the tenant's sessions may name."""

from __future__ import annotations

from collections.abc import Awaitable, Callable

from msgspec import Struct
from starlette.requests import Request
from starlette.responses import Response

from services.gateway.http.auth import caller_of
from services.gateway.http.problems import as_json
from services.gateway.ports import ReleaseStore
from shared.session.releases import Release


class AgentView(Struct, frozen=True, kw_only=True):
    """An agent by the name that sessions may give as `agent`. New provider sessions get `version`; `canary_share`
    percent of sessions get `canary_version` instead. `shared`: every tenant may name it."""

    name: str
    agent_id: str
    version: int
    canary_version: int | None
    canary_share: int
    previous_version: int | None
    shared: bool


class Agents(Struct, frozen=True, kw_only=True):
    """All of them, by name."""

    data: list[AgentView]


def agent_lister(store: ReleaseStore) -> Callable[[Request], Awaitable[Response]]:
    """The endpoint GET /v1/agents: the tenant's own, and those of everybody that it has none of its own of."""

    async def list_agents(request: Request) -> Response:
        """Raises Transient (`database_unavailable`)."""
        found = await store.releases(caller_of(request.scope).tenant_id)
        named = {one.name: one for one in sorted(found, key=lambda one: one.tenant_id)}
        return as_json(Agents(data=[_view(named[name]) for name in sorted(named)]))

    return list_agents


def _view(one: Release) -> AgentView:
    return AgentView(
        name=one.name,
        agent_id=one.agent_id,
        version=one.pinned,
        canary_version=one.canary or None,
        canary_share=one.share,
        previous_version=one.previous or None,
        shared=not one.tenant_id,
    )
