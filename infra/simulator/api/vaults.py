"""Endpoints of vaults: what sessions may use, whoever they are of."""

from __future__ import annotations

from typing import Annotated

import msgspec
from msgspec import UNSET, Meta, UnsetType, field
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from infra.simulator.api.answer import answer
from infra.simulator.api.decode import body_of
from infra.simulator.api.environments import listed
from infra.simulator.api.resources import Metadata, MetadataPatch
from infra.simulator.api.shape import metadata_patched
from infra.simulator.content import Strict
from infra.simulator.errors import ApiError
from infra.simulator.world import JSON, World

DisplayName = Annotated[str, Meta(min_length=1, max_length=255)]


class CreateVault(Strict):
    display_name: DisplayName
    metadata: Metadata = field(default_factory=dict)


class UpdateVault(Strict):
    display_name: DisplayName | UnsetType = UNSET
    metadata: MetadataPatch | UnsetType | None = UNSET


_CREATE = msgspec.json.Decoder(CreateVault)
_UPDATE = msgspec.json.Decoder(UpdateVault)


class Vaults:
    """The vault endpoints over one world."""

    def __init__(self, world: World) -> None:
        self._world = world

    def routes(self) -> list[Route]:
        one = "/v1/vaults/{vault_id}"
        return [
            Route("/v1/vaults", self.create, methods=["POST"]),
            Route("/v1/vaults", self.list, methods=["GET"]),
            Route(one, self.retrieve, methods=["GET"]),
            Route(one, self.update, methods=["POST"]),
            Route(one, self.delete, methods=["DELETE"]),
            Route(f"{one}/archive", self.archive, methods=["POST"]),
        ]

    async def create(self, request: Request) -> Response:
        """A new vault. Raises ApiError 400."""
        asked = await body_of(request, _CREATE)
        now = self._world.written_now()
        body: JSON = {
            "id": self._world.ids.new("vlt"),
            "type": "vault",
            "display_name": asked.display_name,
            "metadata": dict(asked.metadata),
            "created_at": now,
            "updated_at": now,
            "archived_at": None,
        }
        self._world.vaults[body["id"]] = body
        self._world.credentials[body["id"]] = {}
        return answer(body)

    async def retrieve(self, request: Request) -> Response:
        return answer(self._vault(request))

    async def list(self, request: Request) -> Response:
        return listed(request, "vaults", self._world.vaults)

    async def update(self, request: Request) -> Response:
        """Another name, other metadata. Raises ApiError 400 or 404."""
        asked = await body_of(request, _UPDATE)
        body = self._vault(request)
        if asked.metadata is not UNSET:
            body["metadata"] = metadata_patched(body["metadata"], asked.metadata or {})
        if asked.display_name is not UNSET:
            body["display_name"] = asked.display_name
        body["updated_at"] = self._world.written_now()
        return answer(body)

    async def archive(self, request: Request) -> Response:
        """Archived with all its credentials, whose secrets are gone then."""
        body = self._vault(request)
        now = self._world.written_now()
        body["archived_at"] = body["archived_at"] or now
        for credential in self._world.credentials[body["id"]].values():
            credential.body["archived_at"] = credential.body["archived_at"] or now
            credential.secrets = {}
        return answer(body)

    async def delete(self, request: Request) -> Response:
        ident = self._vault(request)["id"]
        del self._world.vaults[ident], self._world.credentials[ident]
        return answer({"id": ident, "type": "vault_deleted"})

    def _vault(self, request: Request) -> JSON:
        return vault(self._world, request.path_params["vault_id"])


def vault(world: World, ident: str) -> JSON:
    """Raises ApiError 404."""
    body = world.vaults.get(ident)
    if body is None:
        raise ApiError(404, f"vault {ident!r} was not found")
    return body
