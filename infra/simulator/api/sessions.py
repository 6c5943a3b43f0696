"""Endpoints of sessions: create, read, change, archive and delete them."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

import msgspec
from msgspec import UNSET
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from infra.simulator.api.answer import answer, listing
from infra.simulator.api.births import born
from infra.simulator.api.decode import body_of
from infra.simulator.api.pages import page_of
from infra.simulator.api.query import RANGES, Query
from infra.simulator.api.resources import CREATE_SESSION, UPDATE_SESSION, UpdateSession
from infra.simulator.api.shape import metadata_patched, tools_json
from infra.simulator.errors import bad
from infra.simulator.play import status
from infra.simulator.play.session import Session
from infra.simulator.play.usage import CENT
from infra.simulator.world import JSON, World

STATUSES = ("rescheduling", "running", "idle", "terminated")


class Sessions:
    """The session endpoints over one world."""

    def __init__(self, world: World) -> None:
        self._world = world

    def routes(self) -> list[Route]:
        """Paths, methods and their endpoints."""
        one = "/v1/sessions/{session_id}"
        return [
            Route(one, self.retrieve, methods=["GET"]),
            Route("/v1/sessions", self.create, methods=["POST"]),
            Route("/v1/sessions", self.list, methods=["GET"]),
            Route(one, self.update, methods=["POST"]),
            Route(one, self.delete, methods=["DELETE"]),
            Route(f"{one}/archive", self.archive, methods=["POST"]),
        ]

    async def create(self, request: Request) -> Response:
        asked = await body_of(request, CREATE_SESSION)
        session = born(self._world, asked)
        if session.birth.delays.create:
            await asyncio.sleep(session.birth.delays.create)
        return answer(session.as_json())

    async def retrieve(self, request: Request) -> Response:
        return answer(self._session(request).as_json())

    async def list(self, request: Request) -> Response:
        """Newest first unless asked otherwise. There is no filter on metadata."""
        names = ("agent_id", "agent_version", "statuses", "include_archived", "deployment_id")
        query = Query(request, *names, "memory_store_id", "limit", "order", "page", *RANGES)
        order = query.choice("order", ("asc", "desc"), "desc")
        sessions = list(filter(_filter(query), self._world.sessions.values()))
        if order == "desc":
            sessions.reverse()
        name = ":".join(
            sorted(
                f"{k}={v}"
                for k, v in request.query_params.multi_items()
                if k not in ("page", "limit")
            )
        )
        page, following, before = page_of(
            sessions, query.text("page"), f"sessions:{order}:{name}", query.limit(20, 1000)
        )
        return listing([session.as_json() for session in page], following, prev_page=before)

    async def update(self, request: Request) -> Response:
        """Change agent, metadata, title or budget; nothing is changed when it raises ApiError (400, 404)."""
        asked = await body_of(request, UPDATE_SESSION)
        session = self._session(request)
        if session.over:
            raise bad("session is archived or terminated and cannot be changed")
        if asked.vault_ids is not UNSET:
            raise bad("vault_ids: not yet supported")
        changed = _apply(session, asked)
        if changed:
            session.emit("session.updated", changed)
        if not session.over_budget:
            session.budget_stop = session.budget_stop and session.driver is not None
        self._world.driver.wake(session)
        return answer(session.as_json())

    async def archive(self, request: Request) -> Response:
        """Read-only from now on; the end shows on streams and not in the list."""
        session = self._session(request)
        if session.archived_at is not None:
            raise bad("session is already archived")
        self._rest_or_refuse(session, "archived")
        self._world.driver.drop(session)
        if session.status != "terminated":
            status.terminate(session, listed=False)
        session.archived_at = session.updated_at
        return answer(session.as_json())

    async def delete(self, request: Request) -> Response:
        """Forget a session that does not run; its listeners hear so. Raises ApiError (400, 404)."""
        session = self._session(request)
        self._rest_or_refuse(session, "deleted")
        self._world.driver.drop(session)
        session.publish_only("session.deleted")
        for thread in session.threads.values():
            thread.channel.close()
        self._world.forget(session)
        return answer({"id": session.id, "type": "session_deleted"})

    def _rest_or_refuse(self, session: Session, what: str) -> None:
        if "running" in (session.seen_status, session.status):
            raise bad(f"session is running and cannot be {what}; interrupt it first")

    def _session(self, request: Request) -> Session:
        return self._world.session(request.path_params["session_id"])


def _filter(query: Query) -> Callable[[Session], bool]:
    """The filter of a listing, checked before the first session is looked at."""
    statuses = query.many("statuses", STATUSES)
    low, high = query.span()
    agent, version = query.text("agent_id"), query.number("agent_version")
    archived = query.flag("include_archived")
    store = query.text("memory_store_id")
    elsewhere = query.text("deployment_id")  # none exist here

    def keep(session: Session) -> bool:
        """Whether the session passes every filter of the query."""
        return (
            not elsewhere
            and (not statuses or session.seen_status in statuses)
            and (archived or session.archived_at is None)
            and agent in (None, session.agent["id"])
            and (
                store is None
                or any(store == r.get("memory_store_id") for r in session.birth.resources)
            )
            and version in (0, session.agent["version"])
            and (low is None or session.created_at >= low)
            and (high is None or session.created_at < high)
        )

    return keep


def _apply(session: Session, asked: UpdateSession) -> JSON:
    """Changes the session; returns the fields that changed. Raises ApiError before any change."""
    changed: JSON = {}
    budget = _budget(session, asked)
    metadata = session.metadata
    if asked.metadata is not UNSET:
        metadata = metadata_patched(session.metadata, asked.metadata or {})
    agent = session.agent
    if asked.agent is not UNSET:
        agent = _agent(session, asked.agent)
    if agent != session.agent:
        session.agent = changed["agent"] = agent
        session.primary.agent = {k: v for k, v in agent.items() if k != "multiagent"}
    if metadata != session.metadata:
        session.metadata = changed["metadata"] = metadata
    if asked.title is not UNSET and asked.title != session.title:
        session.title = changed["title"] = asked.title
    if budget != session.budget:
        session.budget = budget
        changed["budget"] = session.budget_json()
    return changed


def _budget(session: Session, asked: UpdateSession) -> int | None:
    if asked.budget is UNSET:
        return session.budget
    if asked.budget is None:
        return None
    if session.budget is None:
        raise bad("budget: can only be set when the session is created", "budget_create_only")
    cents = int(asked.budget.max_list_cost.amount)
    if cents * CENT <= session.spent:
        raise bad("budget: must be above the cost so far", "budget_not_raised")
    return cents


def _agent(session: Session, patch: Any) -> JSON:
    if "running" in (session.seen_status, session.status):
        raise bad("agent: cannot be changed while the session is running")
    servers = session.agent["mcp_servers"]
    if patch.mcp_servers is not UNSET:
        servers = msgspec.to_builtins(patch.mcp_servers)
    tools = session.agent["tools"]
    if patch.tools is not UNSET:
        tools = tools_json(patch.tools, servers)
    return {**session.agent, "tools": tools, "mcp_servers": servers}
