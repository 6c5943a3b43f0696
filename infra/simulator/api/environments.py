"""Endpoints of environments: what a session runs in."""

from __future__ import annotations

import msgspec
from msgspec import UNSET
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from infra.simulator.api.answer import answer, listing
from infra.simulator.api.decode import body_of
from infra.simulator.api.pages import page_of
from infra.simulator.api.query import Query
from infra.simulator.api.resources import (
    CREATE_ENVIRONMENT,
    UPDATE_ENVIRONMENT,
    Cloud,
    Packages,
    SelfHosted,
)
from infra.simulator.api.shape import metadata_patched
from infra.simulator.errors import ApiError, bad
from infra.simulator.world import JSON, World

MANAGERS = ("apt", "cargo", "gem", "go", "npm", "pip")


class Environments:
    """The environment endpoints over one world."""

    def __init__(self, world: World) -> None:
        self._world = world

    def routes(self) -> list[Route]:
        """Paths, methods and their endpoints."""
        one = "/v1/environments/{environment_id}"
        return [
            Route("/v1/environments", self.create, methods=["POST"]),
            Route("/v1/environments", self.list, methods=["GET"]),
            Route(one, self.retrieve, methods=["GET"]),
            Route(one, self.update, methods=["POST"]),
            Route(one, self.delete, methods=["DELETE"]),
            Route(f"{one}/archive", self.archive, methods=["POST"]),
        ]

    async def create(self, request: Request) -> Response:
        """Names are unique among all environments that are not deleted: 409 otherwise."""
        asked = await body_of(request, CREATE_ENVIRONMENT)
        if "cloud" in self._world.settings.without and not isinstance(asked.config, SelfHosted):
            raise bad("config: only self_hosted environments are available on this server")
        self._require_free(asked.name)
        now = self._world.written_now()
        body: JSON = {
            "id": self._world.ids.new("env"),
            "type": "environment",
            "name": asked.name,
            "description": asked.description,
            "config": _config_json(asked.config),
            "metadata": dict(asked.metadata),
            "scope": asked.scope,
            "created_at": now,
            "updated_at": now,
            "archived_at": None,
        }
        self._world.environments[body["id"]] = body
        return answer(body)

    async def retrieve(self, request: Request) -> Response:
        return answer(self._environment(request))

    async def update(self, request: Request) -> Response:
        """What is not sent stays as it is. Raises ApiError 400, 404 or 409."""
        asked = await body_of(request, UPDATE_ENVIRONMENT)
        body = self._environment(request)
        if body["archived_at"] is not None:
            raise bad("environment is archived and cannot be updated", "environment_archived")
        if asked.name is not UNSET:
            self._require_free(asked.name, body)
            body["name"] = asked.name
        if asked.description is not UNSET:
            body["description"] = asked.description
        if asked.config is not UNSET and asked.config is not None:
            body["config"] = _config_json(asked.config, body["config"])
        if asked.metadata is not UNSET:
            body["metadata"] = metadata_patched(body["metadata"], asked.metadata)
        if asked.scope is not UNSET:
            body["scope"] = asked.scope
        body["updated_at"] = self._world.written_now()
        return answer(body)

    def _require_free(self, name: str, own: JSON | None = None) -> None:
        """Raises ApiError 409 for a name that another environment has."""
        others = [one for one in self._world.environments.values() if one is not own]
        if any(name == other["name"] for other in others):
            raise ApiError(409, f"name: an environment named {name!r} exists already")

    async def list(self, request: Request) -> Response:
        return listed(request, "environments", self._world.environments)

    async def archive(self, request: Request) -> Response:
        body = self._environment(request)
        body["archived_at"] = body["archived_at"] or self._world.written_now()
        return answer(body)

    async def delete(self, request: Request) -> Response:
        body = self._environment(request)
        del self._world.environments[body["id"]]
        return answer({"id": body["id"], "type": "environment_deleted"})

    def _environment(self, request: Request) -> JSON:
        return environment(self._world, request.path_params["environment_id"])


def environment(world: World, ident: str) -> JSON:
    """Raises ApiError 404 with the code a client can switch on."""
    body = world.environments.get(ident)
    if body is None:
        raise ApiError(
            404, f"environment {ident!r} was not found", error_code="environment_not_found"
        )
    return body


def listed(request: Request, kind: str, items: dict[str, JSON]) -> Response:
    """A page of these, newest first, without those that are archived unless they are asked for."""
    query = Query(request, "limit", "page", "include_archived")
    archived = query.flag("include_archived")
    kept = [body for body in reversed(items.values()) if archived or body["archived_at"] is None]
    name = f"{kind}:{archived}"
    page, following, _ = page_of(kept, query.text("page"), name, query.limit(20, 100))
    return listing(page, following)


def _config_json(config: Cloud | SelfHosted | None, old: JSON | None = None) -> JSON:
    """A configuration with every default written out; what is not sent stays as in `old`."""
    if isinstance(config, SelfHosted):
        return {"type": "self_hosted"}
    config = config or Cloud()
    kept = old if old and old["type"] == "cloud" else None
    network: JSON = kept["networking"] if kept else {"type": "unrestricted"}
    if config.networking is not None:
        network = msgspec.to_builtins(config.networking)
    if network["type"] == "limited":
        unset = {"allowed_hosts": [], "allow_mcp_servers": False, "allow_package_managers": False}
        network = {**unset, **network}
    if kept and config.packages is None:
        return {"type": "cloud", "networking": network, "packages": kept["packages"]}
    asked = msgspec.to_builtins(config.packages or Packages())
    packages = {"type": "packages", **{name: asked.get(name) or [] for name in MANAGERS}}
    return {"type": "cloud", "networking": network, "packages": packages}
