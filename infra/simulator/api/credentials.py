"""Endpoints of credentials: secrets come in, and never out again."""

from __future__ import annotations

from typing import Annotated, Any

import msgspec
from msgspec import UNSET, Meta, UnsetType, field
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from infra.simulator import stamps
from infra.simulator.api.answer import answer
from infra.simulator.api.decode import body_of
from infra.simulator.api.environments import listed
from infra.simulator.api.resources import Metadata, MetadataPatch
from infra.simulator.api.shape import metadata_patched
from infra.simulator.api.vaults import vault
from infra.simulator.connections import Credential, probed
from infra.simulator.content import Strict
from infra.simulator.errors import ApiError, bad, missing
from infra.simulator.real_servers import try_credential
from infra.simulator.world import JSON, World

MOST = 20  # credentials of a vault
Web = Annotated[str, Meta(pattern=r"^https?://[^\s/]\S*$", max_length=2048)]
Hidden = Annotated[str, Meta(min_length=1, max_length=65_536)]
VariableName = Annotated[str, Meta(pattern="^[A-Za-z_][A-Za-z0-9_]*$", max_length=255)]


class NoAuth(Strict, tag="none"):
    pass


class BasicAuth(Strict, tag="client_secret_basic"):
    client_secret: Hidden


class PostAuth(Strict, tag="client_secret_post"):
    client_secret: Hidden


class Refresh(Strict):
    client_id: Annotated[str, Meta(min_length=1)]
    refresh_token: Hidden
    token_endpoint: Web
    token_endpoint_auth: NoAuth | BasicAuth | PostAuth
    resource: str | None = None
    scope: str | None = None


class McpOauth(Strict, tag="mcp_oauth"):
    access_token: Hidden
    mcp_server_url: Web
    expires_at: str | None = None
    refresh: Refresh | None = None


class StaticBearer(Strict, tag="static_bearer"):
    token: Hidden
    mcp_server_url: Web


class Anywhere(Strict, tag="unrestricted"):
    pass


class SomeHosts(Strict, tag="limited"):
    allowed_hosts: Annotated[list[str], Meta(min_length=1)]


class Injection(Strict):
    header: bool | None = None
    body: bool | None = None


class Variable(Strict, tag="environment_variable"):
    secret_name: VariableName
    secret_value: Hidden
    networking: Anywhere | SomeHosts
    injection_location: Injection | None = None


class CreateCredential(Strict):
    auth: McpOauth | StaticBearer | Variable
    display_name: Annotated[str, Meta(max_length=255)] | None = None
    metadata: Metadata = field(default_factory=dict)


class NewRefresh(Strict):
    refresh_token: Hidden | UnsetType | None = UNSET
    scope: str | UnsetType | None = UNSET
    token_endpoint_auth: BasicAuth | PostAuth | UnsetType = UNSET


class NewMcpOauth(Strict, tag="mcp_oauth"):
    access_token: Hidden | UnsetType | None = UNSET
    expires_at: str | UnsetType | None = UNSET
    refresh: NewRefresh | UnsetType | None = UNSET


class NewStaticBearer(Strict, tag="static_bearer"):
    token: Hidden | UnsetType | None = UNSET


class NewVariable(Strict, tag="environment_variable"):
    secret_value: Hidden | UnsetType | None = UNSET
    networking: Anywhere | SomeHosts | UnsetType | None = UNSET
    injection_location: Injection | UnsetType = UNSET


class UpdateCredential(Strict):
    auth: NewMcpOauth | NewStaticBearer | NewVariable | UnsetType = UNSET
    display_name: Annotated[str, Meta(max_length=255)] | UnsetType | None = UNSET
    metadata: MetadataPatch | UnsetType | None = UNSET


_CREATE = msgspec.json.Decoder(CreateCredential)
_UPDATE = msgspec.json.Decoder(UpdateCredential)
SECRETS = ("token", "secret_value", "access_token", "refresh_token", "client_secret")


class Credentials:
    """The credential endpoints over one world."""

    def __init__(self, world: World) -> None:
        self._world = world

    def routes(self) -> list[Route]:
        all_, one = "/v1/vaults/{vault_id}/credentials", "/v1/vaults/{vault_id}/credentials/{id}"
        return [
            Route(all_, self.create, methods=["POST"]),
            Route(all_, self.list, methods=["GET"]),
            Route(one, self.retrieve, methods=["GET"]),
            Route(one, self.update, methods=["POST"]),
            Route(one, self.delete, methods=["DELETE"]),
            Route(f"{one}/archive", self.archive, methods=["POST"]),
            Route(f"{one}/mcp_oauth_validate", self.validate, methods=["POST"]),
        ]

    async def create(self, request: Request) -> Response:
        """One for each server and each variable of a vault: 409 otherwise; 20 at most."""
        asked = await body_of(request, _CREATE)
        if isinstance(asked.auth, McpOauth) and "mcp_oauth" in self._world.settings.without:
            raise bad("auth: mcp_oauth is not available on this server")
        kept = self._all(request)
        vault_id = request.path_params["vault_id"]
        if self._world.vaults[vault_id]["archived_at"] is not None:
            raise bad(f"vault {vault_id!r} is archived")
        shown, secrets = _parted(msgspec.to_builtins(asked.auth))
        self._require_future(shown.get("expires_at"))
        now = self._world.written_now()
        body: JSON = {
            "id": self._world.ids.new("vcrd"),
            "type": "vault_credential",
            "vault_id": vault_id,
            "auth": _filled(shown),
            "display_name": asked.display_name,
            "metadata": dict(asked.metadata),
            "created_at": now,
            "updated_at": now,
            "archived_at": None,
        }
        new = Credential(body, secrets)
        living = [one for one in kept.values() if one.body["archived_at"] is None]
        if any(one.place == new.place for one in living):
            raise ApiError(409, f"auth: the vault has a credential for {new.place!r} already")
        if len(living) >= MOST:
            raise bad(f"a vault may have {MOST} credentials")
        kept[body["id"]] = new
        return answer(body)

    async def list(self, request: Request) -> Response:
        bodies = {id: one.body for id, one in self._all(request).items()}
        return listed(request, f"credentials of {request.path_params['vault_id']}", bodies)

    async def retrieve(self, request: Request) -> Response:
        return answer(self._one(request).body)

    async def update(self, request: Request) -> Response:
        """Other secrets; what it is for stays. Raises ApiError 400 or 404, and nothing is changed then."""
        asked = await body_of(request, _UPDATE)
        one = self._one(request)
        if one.body["archived_at"] is not None:
            raise bad("credential is archived and cannot be changed")
        if asked.auth is not UNSET:
            self._change(one, msgspec.to_builtins(asked.auth))
        if asked.metadata is not UNSET:
            one.body["metadata"] = metadata_patched(one.body["metadata"], asked.metadata or {})
        if asked.display_name is not UNSET:
            one.body["display_name"] = asked.display_name
        one.body["updated_at"] = self._world.written_now()
        return answer(one.body)

    def _change(self, one: Credential, auth: JSON) -> None:
        held = one.body["auth"]
        if auth["type"] != held["type"]:
            raise bad(f"auth.type: is {held['type']} and cannot be changed")
        shown, secrets = _parted(auth)
        refresh = shown.pop("refresh", None)
        if refresh and not held.get("refresh"):
            raise bad("auth.refresh: the credential was created without one")
        self._require_future(shown.get("expires_at"))
        held.update({name: value for name, value in shown.items() if value is not None})
        if refresh:
            held["refresh"].update({k: v for k, v in refresh.items() if v is not None})
        one.secrets.update(secrets)
        one.found = None

    async def archive(self, request: Request) -> Response:
        """Its secrets are gone then."""
        one = self._one(request)
        one.body["archived_at"] = one.body["archived_at"] or self._world.written_now()
        one.secrets = {}
        return answer(one.body)

    async def delete(self, request: Request) -> Response:
        ident = self._one(request).body["id"]
        del self._all(request)[ident]
        return answer({"id": ident, "type": "vault_credential_deleted"})

    async def validate(self, request: Request) -> Response:
        """Ask its MCP server, and refresh it where that refuses it. Raises ApiError 400 for one of another type."""
        one = self._one(request)
        if one.body["auth"]["type"] != "mcp_oauth":
            raise bad("only an mcp_oauth credential can be validated")
        await try_credential(one, self._world.now())
        return answer(
            {
                "type": "vault_credential_validation",
                "credential_id": one.body["id"],
                "vault_id": one.body["vault_id"],
                "has_refresh_token": "refresh_token" in one.secrets,
                "validated_at": self._world.written_now(),
                **probed(one),
            }
        )

    def _require_future(self, expires_at: str | None) -> None:
        if expires_at is None:
            return
        try:
            when = stamps.read(expires_at)
        except ValueError:
            raise bad("auth.expires_at: must be RFC 3339") from None
        if when <= self._world.now():
            raise bad("auth.expires_at: must be in the future")

    def _all(self, request: Request) -> dict[str, Credential]:
        return self._world.credentials[vault(self._world, request.path_params["vault_id"])["id"]]

    def _one(self, request: Request) -> Credential:
        found = self._all(request).get(request.path_params["id"])
        if found is None:
            raise missing("credential", request.path_params["id"])
        return found


def _parted(auth: JSON) -> tuple[JSON, dict[str, str]]:
    """What is shown of an `auth`, and its secrets by name."""
    secrets: dict[str, str] = {}

    def shown(value: Any) -> Any:
        if not isinstance(value, dict):
            return value
        secrets.update({name: value[name] for name in SECRETS if value.get(name)})
        return {name: shown(item) for name, item in value.items() if name not in SECRETS}

    return shown(auth), secrets


def _filled(auth: JSON) -> JSON:
    if auth["type"] == "environment_variable":
        given = auth.get("injection_location") or {}
        places = {name: given.get(name) is not False for name in ("header", "body")}
        return {**auth, "injection_location": places}
    return auth
