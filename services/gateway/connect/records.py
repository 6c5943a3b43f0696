"""What is known of a link: its row, what is sealed in it, and what a browser carries through the server."""

from __future__ import annotations

from typing import Literal

from msgspec import Struct

from shared.secret import Secret

# open: may be begun with; exchanging: a code is being exchanged, once; done: the credential was put in.
Status = Literal["open", "exchanging", "done"]
ClientAuth = Literal["none", "client_secret_basic", "client_secret_post"]


class LinkRecord(Struct, frozen=True, kw_only=True):
    """The row. `id` is the SHA-256 of the link's token and `browser` that of the cookie of who began with it, ""
    for nobody yet; `sealed` opens with the token alone, and is "" once done. `expires_at` is in seconds since the
    epoch."""

    id: str
    tenant_id: str
    user_id: str
    vault_id: str
    sealed: str
    browser: str
    status: Status
    expires_at: float


class Client(Struct, frozen=True, kw_only=True):
    """Whom the authorization server knows us as."""

    id: str
    secret: Secret | None = None
    auth: ClientAuth = "none"


class Server(Struct, frozen=True, kw_only=True):
    """An authorization server. `issuer`: who it says it is, "" where nobody asked; `says_issuer`: it promises to
    name itself in each answer (RFC 9207)."""

    authorization_endpoint: str
    token_endpoint: str
    issuer: str = ""
    says_issuer: bool = False


class Connection(Struct, frozen=True, kw_only=True):
    """What a link is for; sealed in its row. `base` is where browsers reach this gateway, `return_to` the page that
    is shown at the end, "" for ours."""

    mcp_server_url: str
    server: Server
    client: Client
    scope: str
    resource: str
    user_id: str
    base: str
    return_to: str

    @property
    def redirect_uri(self) -> str:
        """Where the authorization server sends the browser back to."""
        return self.base + CALLBACK


class Journey(Struct, frozen=True, kw_only=True):
    """What `state` holds, sealed for one browser: the link's token, and the secret of the exchange (PKCE)."""

    token: Secret
    verifier: Secret


CALLBACK = "/connect/callback"
