"""Endpoints of agents: versioned configurations that sessions are created from."""

from __future__ import annotations

from typing import Any

import msgspec
from msgspec import UNSET
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from infra.simulator import stamps
from infra.simulator.api.answer import answer, listing
from infra.simulator.api.decode import body_of
from infra.simulator.api.pages import page_of
from infra.simulator.api.query import RANGES, Query
from infra.simulator.api.resources import CREATE_AGENT, UPDATE_AGENT, UpdateAgent
from infra.simulator.api.shape import metadata_patched, model_json, roster, tools_json
from infra.simulator.errors import ApiError, bad, missing
from infra.simulator.world import JSON, Agent, World

SERVICE_ACCOUNT = {"type": "service_account"}


class Agents:
    """The agent endpoints over one world."""

    def __init__(self, world: World) -> None:
        self._world = world

    def routes(self) -> list[Route]:
        """Paths, methods and their endpoints."""
        return [
            Route("/v1/agents", self.create, methods=["POST"]),
            Route("/v1/agents", self.list, methods=["GET"]),
            Route("/v1/agents/{agent_id}", self.retrieve, methods=["GET"]),
            Route("/v1/agents/{agent_id}", self.update, methods=["POST"]),
            Route("/v1/agents/{agent_id}/archive", self.archive, methods=["POST"]),
            Route("/v1/agents/{agent_id}/versions", self.versions, methods=["GET"]),
        ]

    async def create(self, request: Request) -> Response:
        """A new agent, at version 1. Raises ApiError 400."""
        asked = await body_of(request, CREATE_AGENT)
        ident = self._world.ids.new("agent")
        now = self._world.written_now()
        body: JSON = {
            "id": ident,
            "type": "agent",
            "version": 1,
            "name": asked.name,
            "description": asked.description,
            "model": model_json(asked.model),
            "system": asked.system,
            "tools": tools_json(asked.tools, asked.mcp_servers),
            "mcp_servers": msgspec.to_builtins(asked.mcp_servers),
            "skills": msgspec.to_builtins(asked.skills),
            "metadata": dict(asked.metadata),
            "multiagent": roster(self._world.agents, asked.multiagent, ident, 1),
            "execution_identity": _identity(asked.execution_identity),
            "created_at": now,
            "updated_at": now,
        }
        self._world.agents[ident] = Agent(ident, [body])
        return answer(self._world.agents[ident].at())

    async def retrieve(self, request: Request) -> Response:
        query = Query(request, "version")
        version = query.number("version") if query.text("version") is not None else None
        return answer(self._agent(request).at(version))

    async def update(self, request: Request) -> Response:
        """A change makes a new version; a body that changes nothing makes none."""
        asked = await body_of(request, UPDATE_AGENT)
        agent = self._agent(request)
        if agent.archived_at is not None:
            raise bad("agent is archived and cannot be updated")
        newest = agent.versions[-1]
        if asked.version is not UNSET and asked.version != newest["version"]:
            raise ApiError(409, f"version: the agent is at version {newest['version']}")
        body = {**newest, **self._changes(asked, newest)}
        if body != newest:
            body["version"] = newest["version"] + 1
            body["updated_at"] = self._world.written_now()
            agent.versions.append(body)
        return answer(agent.at())

    def _changes(self, asked: UpdateAgent, old: JSON) -> JSON:
        changes: JSON = {}
        for name in ("name", "description", "system"):
            if (value := getattr(asked, name)) is not UNSET:
                changes[name] = value
        if asked.skills is not UNSET:
            changes["skills"] = msgspec.to_builtins(asked.skills or [])
        if asked.model is not UNSET:
            changes["model"] = model_json(asked.model)
        if asked.execution_identity is not UNSET:
            changes["execution_identity"] = _identity(asked.execution_identity)
        if asked.metadata is not UNSET:
            changes["metadata"] = metadata_patched(old["metadata"], asked.metadata or {})
        if asked.multiagent is not UNSET:
            version = old["version"] + 1
            changes["multiagent"] = roster(self._world.agents, asked.multiagent, old["id"], version)
        return {**changes, **_tool_changes(asked, old)}

    async def list(self, request: Request) -> Response:
        """A page of agents, newest first. Raises ApiError 400 for a cursor it did not give."""
        query = Query(request, "limit", "page", "include_archived", *RANGES[1::2])
        limit = query.limit(20, 100)
        archived, (low, high) = query.flag("include_archived"), query.span()
        agents = [
            agent.at()
            for agent in reversed(self._world.agents.values())
            if (archived or agent.archived_at is None) and _within(agent.versions[0], low, high)
        ]
        name = f"agents:{archived}:{low}:{high}"
        page, following, _ = page_of(agents, query.text("page"), name, limit)
        return listing(page, following)

    async def archive(self, request: Request) -> Response:
        agent = self._agent(request)
        agent.archived_at = agent.archived_at or self._world.written_now()
        return answer(agent.at())

    async def versions(self, request: Request) -> Response:
        query = Query(request, "limit", "page")
        agent = self._agent(request)
        newest_first = [agent.at(body["version"]) for body in reversed(agent.versions)]
        name = f"versions:{agent.id}"
        page, following, _ = page_of(newest_first, query.text("page"), name, query.limit(20, 100))
        return listing(page, following)

    def _agent(self, request: Request) -> Agent:
        ident = request.path_params["agent_id"]
        agent = self._world.agents.get(ident)
        if agent is None:
            raise missing("agent", ident)
        return agent


def _tool_changes(asked: UpdateAgent, old: JSON) -> JSON:
    if asked.tools is UNSET and asked.mcp_servers is UNSET:
        return {}
    servers = old["mcp_servers"]
    if asked.mcp_servers is not UNSET:
        servers = msgspec.to_builtins(asked.mcp_servers or [])
    if asked.tools is UNSET:
        return {"mcp_servers": servers}
    return {"mcp_servers": servers, "tools": tools_json(asked.tools or [], servers)}


def _identity(asked: dict[str, Any] | None) -> JSON:
    if asked not in (None, SERVICE_ACCOUNT):
        raise bad("execution_identity: the simulator knows only {'type': 'service_account'}")
    return dict(SERVICE_ACCOUNT)


def _within(body: JSON, low: int | None, high: int | None) -> bool:
    at = stamps.read(body["created_at"])
    return (low is None or at >= low) and (high is None or at < high)
