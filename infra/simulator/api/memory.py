"""Endpoints of memory stores: what sessions may be given by id. Their memories are not simulated."""

from __future__ import annotations

import re
from typing import Annotated

import msgspec
from msgspec import Meta, field
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from infra.simulator.api.answer import answer
from infra.simulator.api.decode import body_of
from infra.simulator.api.environments import listed
from infra.simulator.api.resources import MemoryResource, Metadata
from infra.simulator.content import Strict
from infra.simulator.errors import bad, missing
from infra.simulator.world import JSON, World


class CreateStore(Strict):
    name: Annotated[str, Meta(min_length=1, max_length=255)]
    description: Annotated[str, Meta(max_length=1024)] = ""
    metadata: Metadata = field(default_factory=dict)


_CREATE = msgspec.json.Decoder(CreateStore)


class MemoryStores:
    """The memory store endpoints over one world."""

    def __init__(self, world: World) -> None:
        self._world = world

    def routes(self) -> list[Route]:
        """Paths, methods and their endpoints."""
        one = "/v1/memory_stores/{store_id}"
        return [
            Route("/v1/memory_stores", self.create, methods=["POST"]),
            Route("/v1/memory_stores", self.list, methods=["GET"]),
            Route(one, self.retrieve, methods=["GET"]),
            Route(one, self.delete, methods=["DELETE"]),
            Route(f"{one}/archive", self.archive, methods=["POST"]),
        ]

    async def create(self, request: Request) -> Response:
        """A new, empty store. Raises ApiError 400."""
        asked = await body_of(request, _CREATE)
        now = self._world.written_now()
        body: JSON = {
            "id": self._world.ids.new("memstore"),
            "type": "memory_store",
            **msgspec.structs.asdict(asked),
            "created_at": now,
            "updated_at": now,
            "archived_at": None,
        }
        self._world.memory_stores[body["id"]] = body
        return answer(body)

    async def retrieve(self, request: Request) -> Response:
        return answer(self._store(request))

    async def list(self, request: Request) -> Response:
        return listed(request, "memory stores", self._world.memory_stores)

    async def archive(self, request: Request) -> Response:
        body = self._store(request)
        body["archived_at"] = body["archived_at"] or self._world.written_now()
        return answer(body)

    async def delete(self, request: Request) -> Response:
        ident = self._store(request)["id"]
        del self._world.memory_stores[ident]
        return answer({"id": ident, "type": "memory_store_deleted"})

    def _store(self, request: Request) -> JSON:
        return store(self._world, request.path_params["store_id"])


def store(world: World, ident: str) -> JSON:
    """Raises ApiError 404 for a store that is not there."""
    body = world.memory_stores.get(ident)
    if body is None:
        raise missing("memory store", ident)
    return body


def attached(world: World, asked: MemoryResource) -> JSON:
    """The store as a session has it. Raises ApiError 404, or 400 for one that is archived."""
    body = store(world, asked.memory_store_id)
    if body["archived_at"] is not None:
        raise bad(f"resources: memory store {asked.memory_store_id!r} is archived")
    slug = re.sub("[^a-z0-9]+", "-", body["name"].lower()).strip("-")
    return {
        **msgspec.to_builtins(asked),
        "access": asked.access or "read_write",
        "name": body["name"],
        "description": body["description"],
        "mount_path": f"/mnt/memory/{slug}",
    }
