"""Vaults and credentials as clients send and see them. What is secret comes in as a Secret and is in no answer."""

from __future__ import annotations

from typing import Annotated, Literal

from msgspec import Meta, Struct

from shared.secret import Secret
from shared.session.inputs import Id

# No user and password in it: addresses are shown.
Web = Annotated[str, Meta(pattern=r"^https?://[^\s/@]+(/\S*)?(?![\s\S])", max_length=2048)]
Label = Annotated[str, Meta(min_length=1, max_length=255)]
Variable = Annotated[str, Meta(pattern=r"^[A-Za-z_][A-Za-z0-9_]*(?![\s\S])", max_length=255)]
Text = Annotated[str, Meta(min_length=1, max_length=2048)]
# RFC 6749, appendix A.4.
Scope = Annotated[str, Meta(pattern=r"^[!#-\[\]-~]+(?![\s\S])", max_length=255)]
Moment = Annotated[str, Meta(max_length=40, description="RFC 3339, with an offset")]


class _Body(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, omit_defaults=True): ...


class NewVault(_Body, frozen=True, kw_only=True):
    """POST /v1/vaults. With a `project` it is for sessions whose metadata has that `project`, with a `user_id` for
    sessions of that user; with neither for all of the tenant."""

    display_name: Label
    project: Id | None = None
    user_id: Id | None = None


class StaticBearer(_Body, frozen=True, kw_only=True, tag="static_bearer"):
    """A token that is sent to an MCP server."""

    token: Secret
    mcp_server_url: Web


class Unrestricted(_Body, frozen=True, kw_only=True, tag="unrestricted"):
    """Any host that the environment lets through."""


class Limited(_Body, frozen=True, kw_only=True, tag="limited"):
    """These hosts and no others."""

    allowed_hosts: Annotated[list[Text], Meta(min_length=1, max_length=100)]


class Injection(_Body, frozen=True, kw_only=True):
    """Where in a request the secret may stand."""

    header: bool | None = None
    body: bool | None = None


class EnvironmentVariable(_Body, frozen=True, kw_only=True, tag="environment_variable"):
    """A secret that programs of the sandbox use by a variable's name, and that is put in as a request leaves."""

    secret_name: Variable
    secret_value: Secret
    networking: Unrestricted | Limited
    injection_location: Injection | None = None


class NoClientAuth(_Body, frozen=True, kw_only=True, tag="none"):
    """A public client."""


class BasicClientAuth(_Body, frozen=True, kw_only=True, tag="client_secret_basic"):
    """A client that says its secret in a header."""

    client_secret: Secret


class PostClientAuth(_Body, frozen=True, kw_only=True, tag="client_secret_post"):
    """A client that says its secret in the body."""

    client_secret: Secret


class Refresh(_Body, frozen=True, kw_only=True):
    """How the provider gets another access token."""

    client_id: Text
    refresh_token: Secret
    token_endpoint: Web
    token_endpoint_auth: NoClientAuth | BasicClientAuth | PostClientAuth
    resource: Text | None = None
    scope: Text | None = None


class McpOauth(_Body, frozen=True, kw_only=True, tag="mcp_oauth"):
    """OAuth tokens of an MCP server."""

    access_token: Secret
    mcp_server_url: Web
    expires_at: Moment | None = None
    refresh: Refresh | None = None


class NewCredential(_Body, frozen=True, kw_only=True):
    """POST /v1/vaults/{vault_id}/credentials. A vault has one for each MCP server and each variable."""

    auth: StaticBearer | EnvironmentVariable | McpOauth
    display_name: Label | None = None


class NewStaticBearer(_Body, frozen=True, kw_only=True, tag="static_bearer"):
    """Another token."""

    token: Secret


class NewEnvironmentVariable(_Body, frozen=True, kw_only=True, tag="environment_variable"):
    """Another value."""

    secret_value: Secret


class NewRefresh(_Body, frozen=True, kw_only=True):
    """Another refresh token."""

    refresh_token: Secret
    token_endpoint_auth: BasicClientAuth | PostClientAuth | None = None
    scope: Text | None = None


class NewMcpOauth(_Body, frozen=True, kw_only=True, tag="mcp_oauth"):
    """Other OAuth tokens."""

    access_token: Secret
    expires_at: Moment | None = None
    refresh: NewRefresh | None = None


class Rotation(_Body, frozen=True, kw_only=True):
    """POST …/rotate: other secrets of the same type, for the same server or variable."""

    auth: NewStaticBearer | NewEnvironmentVariable | NewMcpOauth


class NewConnect(_Body, frozen=True, kw_only=True):
    """POST /v1/vaults/{vault_id}/connect. As far as endpoints and client are not given, the MCP server is asked
    where its authorization server is, and that one to register this gateway. `user_id` is whom the page names, the
    vault's user by default; `return_to` is shown at the end, in place of a page of the gateway's."""

    mcp_server_url: Web
    authorization_endpoint: Web | None = None
    token_endpoint: Web | None = None
    client_id: Text | None = None
    client_secret: Secret | None = None
    token_endpoint_auth_method: Literal["client_secret_basic", "client_secret_post"] | None = None
    scopes: Annotated[list[Scope], Meta(max_length=100)] | None = None
    resource: Web | None = None
    user_id: Id | None = None
    return_to: Web | None = None


class ConnectLink(Struct, frozen=True, kw_only=True):
    """A page for one person, who connects the server there once. Whoever has the address may, so it is a secret."""

    url: str
    expires_at: str


class VaultView(Struct, frozen=True, kw_only=True):
    """A vault of the tenant's; `project` and `user_id` say which sessions it is for by default, null for all."""

    vault_id: str
    display_name: str
    project: str | None
    user_id: str | None
    created_at: str


class VaultList(Struct, frozen=True, kw_only=True):
    """Vaults in order of id."""

    data: list[VaultView]
    next_cursor: str | None


class CredentialView(Struct, frozen=True, kw_only=True):
    """A credential without its secrets: what it is for, and until when it holds. `refreshable`: the provider can
    get another access token by itself."""

    credential_id: str
    vault_id: str
    type: Literal["static_bearer", "environment_variable", "mcp_oauth"]
    display_name: str | None
    mcp_server_url: str | None
    secret_name: str | None
    expires_at: str | None
    refreshable: bool
    created_at: str
    updated_at: str


class CredentialList(Struct, frozen=True, kw_only=True):
    """All of a vault's."""

    data: list[CredentialView]


class Validation(Struct, frozen=True, kw_only=True):
    """What the MCP server said to an OAuth credential. `http_status`: what it answered, where it refused;
    `refresh`: what came of the exchange of the refresh token, where one was tried."""

    credential_id: str
    status: Literal["valid", "invalid", "unknown"]
    refreshable: bool
    http_status: int | None
    refresh: str | None


class Gone(Struct, frozen=True, kw_only=True):
    """What was deleted, at the provider too."""

    id: str
