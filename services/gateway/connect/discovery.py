"""Where an MCP server's authorization server is, what it takes, and a registration there: RFC 9728, 8414 and 7591
as the Model Context Protocol asks for them.

What servers say is used and never told: it may be anything, and whoever asked may not be meant to read it.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TypeVar
from urllib.parse import SplitResult, urlsplit

from msgspec import Struct

from services.gateway.connect.hosts import Hosts
from services.gateway.connect.ports import OauthHttp
from services.gateway.connect.records import Client, ClientAuth, Server
from shared.errors import Rejected
from shared.secret import Secret

_METADATA_OF = re.compile(r'resource_metadata\s*=\s*"([^"\s]+)"', re.IGNORECASE)
_KNOWN_AUTHS: tuple[ClientAuth, ...] = ("none", "client_secret_basic", "client_secret_post")
_T = TypeVar("_T")


class ResourceMetadata(Struct, frozen=True):
    """RFC 9728, section 2, as far as it matters here."""

    resource: str
    authorization_servers: tuple[str, ...] = ()
    scopes_supported: tuple[str, ...] = ()


class ServerMetadata(Struct, frozen=True):
    """RFC 8414, section 2."""

    issuer: str
    authorization_endpoint: str
    token_endpoint: str
    registration_endpoint: str | None = None
    code_challenge_methods_supported: tuple[str, ...] = ()
    token_endpoint_auth_methods_supported: tuple[str, ...] = ("client_secret_basic",)
    authorization_response_iss_parameter_supported: bool = False


class Registered(Struct, frozen=True):
    """RFC 7591, section 3.2.1."""

    client_id: str
    client_secret: Secret | None = None
    token_endpoint_auth_method: str = "client_secret_basic"


@dataclass(frozen=True, slots=True)
class Discovery:
    """Asks servers. Raises Rejected (`oauth_server_refused`, `invalid_request`) that names a field of the request,
    or Transient (`oauth_server_unavailable`)."""

    http: OauthHttp
    hosts: Hosts

    async def resource(self, mcp_server_url: str) -> ResourceMetadata:
        """What the MCP server says of itself; one that says nothing is its own authorization server."""
        for url in [*await self._named_in_challenge(mcp_server_url), *_of_resource(mcp_server_url)]:
            found = await self._read(url, ResourceMetadata)
            if found is None:
                continue
            if not _covers(found.resource, mcp_server_url):
                raise _refused("the MCP server's metadata are about another resource")
            return found
        return ResourceMetadata(resource=mcp_server_url)

    async def server(self, mcp_server_url: str, said: ResourceMetadata) -> ServerMetadata:
        """What its authorization server says of itself."""
        issuer = (said.authorization_servers or (_origin(urlsplit(mcp_server_url)),))[0]
        self.hosts.require(issuer, "mcp_server_url")
        for url in _of_issuer(issuer):
            found = await self._read(url, ServerMetadata)
            if found is not None:
                self._check(found, issuer)
                return found
        raise _refused(
            "no authorization server's metadata are found there: give authorization_endpoint and token_endpoint"
        )

    async def register(self, metadata: ServerMetadata, redirect_uri: str) -> Client:
        """A client of ours at a server that registers any."""
        if metadata.registration_endpoint is None:
            words = (
                f"is needed: the server registers nobody by itself. Register {redirect_uri} there"
            )
            raise Rejected("invalid_request", words, field="client_id")
        url = self.hosts.require(metadata.registration_endpoint, "mcp_server_url")
        answer = await self.http.post(url, json=_registration(metadata, redirect_uri))
        made = answer.read(Registered) if answer.status in (200, 201) else None
        if made is None or made.token_endpoint_auth_method not in _KNOWN_AUTHS:
            raise _refused(
                "its authorization server does not register this gateway: give client_id"
            )
        if made.client_secret is None:
            return Client(id=made.client_id)
        auth = made.token_endpoint_auth_method
        return Client(id=made.client_id, secret=made.client_secret, auth=auth)

    def _check(self, found: ServerMetadata, issuer: str) -> None:
        if found.issuer.rstrip("/") != issuer.rstrip("/"):
            raise _refused("its authorization server calls itself by another name")
        if "S256" not in found.code_challenge_methods_supported:
            raise _refused("its authorization server does not say that it takes PKCE with S256")
        self.hosts.require(found.authorization_endpoint, "mcp_server_url")
        self.hosts.require(found.token_endpoint, "mcp_server_url")

    async def _named_in_challenge(self, mcp_server_url: str) -> list[str]:
        """Where the server's refusal of a stranger says that its metadata are."""
        answer = await self.http.get(mcp_server_url, body=False)
        named = _METADATA_OF.search(answer.challenge) if answer.status == 401 else None
        return [self.hosts.require(named[1], "mcp_server_url")] if named else []

    async def _read(self, url: str, kind: type[_T]) -> _T | None:
        answer = await self.http.get(url)
        return answer.read(kind) if answer.status == 200 else None


def server_of(metadata: ServerMetadata) -> Server:
    """As a link holds it."""
    return Server(
        authorization_endpoint=metadata.authorization_endpoint,
        token_endpoint=metadata.token_endpoint,
        issuer=metadata.issuer,
        says_issuer=metadata.authorization_response_iss_parameter_supported,
    )


def auth_method(supported: Sequence[str]) -> ClientAuth:
    """How a client with a secret says it."""
    post_only = "client_secret_basic" not in supported and "client_secret_post" in supported
    return "client_secret_post" if post_only else "client_secret_basic"


def _registration(metadata: ServerMetadata, redirect_uri: str) -> dict[str, object]:
    supported = metadata.token_endpoint_auth_methods_supported
    return {
        "client_name": "Turnstile",
        "redirect_uris": [redirect_uri],
        "grant_types": ["authorization_code", "refresh_token"],
        "response_types": ["code"],
        "token_endpoint_auth_method": "none" if "none" in supported else auth_method(supported),
    }


def _of_resource(url: str) -> Iterator[str]:
    """RFC 9728, section 3: the well-known name goes between host and path; the root's is tried after it."""
    parts = urlsplit(url)
    if parts.path.strip("/"):
        yield f"{_origin(parts)}/.well-known/oauth-protected-resource{parts.path.rstrip('/')}"
    yield f"{_origin(parts)}/.well-known/oauth-protected-resource"


def _of_issuer(issuer: str) -> Iterator[str]:
    """RFC 8414, section 3, and OpenID Connect Discovery in both of its places."""
    parts = urlsplit(issuer)
    path = parts.path.rstrip("/")
    yield f"{_origin(parts)}/.well-known/oauth-authorization-server{path}"
    yield f"{_origin(parts)}/.well-known/openid-configuration{path}"
    if path:
        yield f"{_origin(parts)}{path}/.well-known/openid-configuration"


def _covers(resource: str, url: str) -> bool:
    """Whether metadata about `resource` are about `url` (RFC 9728, section 3.3): it, or what it is below."""
    mine, theirs = urlsplit(url), urlsplit(resource)
    if _origin(mine).lower() != _origin(theirs).lower():
        return False
    return f"{mine.path.rstrip('/')}/".startswith(f"{theirs.path.rstrip('/')}/")


def _origin(parts: SplitResult) -> str:
    return f"{parts.scheme}://{parts.netloc}"


def _refused(words: str) -> Rejected:
    return Rejected("oauth_server_refused", words, field="mcp_server_url")
