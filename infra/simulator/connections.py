"""Credentials, and what MCP servers say to them. There are none but those on this machine (`real_servers`): what
others would say is in the words of the secrets themselves, and the same every time."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlsplit

JSON = dict[str, Any]

# A token with this word in it is refused by its server; a refresh token with it is refused by the token endpoint.
REFUSED = "refused"
# One with this word has run out, and is exchanged for another by a refresh token.
EXPIRED = "expired"
# A host with this word does not answer.
UNREACHABLE = "unreachable"
# A server with this word in its URL takes nobody without a credential.
PRIVATE = "private"


@dataclass(slots=True)
class Credential:
    """What a vault holds for one MCP server or one environment variable: what is shown, and what never is.
    `found`: what a server on this machine said to it last, as `probed` has it."""

    body: JSON
    secrets: dict[str, str]
    found: JSON | None = None

    @property
    def place(self) -> str:
        """What it is unique by in its vault: the server's URL, or the variable's name."""
        auth = self.body["auth"]
        return str(auth.get("mcp_server_url") or auth["secret_name"])


@dataclass(frozen=True, slots=True)
class Refusal:
    """Why an agent can't use an MCP server: the type of the `session.error`, and its words."""

    type: str
    message: str


def refusal(server: JSON, credentials: Iterable[Credential]) -> Refusal | None:
    """Why this server (`name`, `url`) takes an agent with these credentials not; None: it does. The first one for
    its URL counts; without any the server is asked without."""
    name, url = server["name"], server["url"]
    if UNREACHABLE in url:
        return Refusal("mcp_connection_failed_error", f"MCP server {name!r} did not answer")
    ours = (one for one in credentials if "mcp_server_url" in one.body["auth"])
    living = (one for one in ours if one.body["archived_at"] is None)
    found = next((one for one in living if _normal(one.place) == _normal(url)), None)
    if found is None and PRIVATE not in url:
        return None
    if found is None:
        words = f"MCP server {name!r} requires authentication, and no credential matches its URL"
        return Refusal("mcp_authentication_failed_error", words)
    if probed(found)["status"] == "valid":
        return None
    words = f"MCP server {name!r} rejected the credential"
    return Refusal("mcp_authentication_failed_error", words)


def _normal(url: str) -> tuple[str, str, int | None, str]:
    """By which URLs are compared: letter case of the host, a default port and a slash at the end do not count."""
    parts = urlsplit(url)
    port = parts.port if parts.port != {"http": 80, "https": 443}.get(parts.scheme) else None
    return parts.scheme, parts.hostname or "", port, parts.path.rstrip("/")


def probed(credential: Credential) -> JSON:
    """`status`, `mcp_probe` and `refresh` of a validation."""
    if credential.found is not None:
        return credential.found
    auth, secrets = credential.body["auth"], credential.secrets
    token = secrets.get("access_token") or secrets.get("token") or ""
    if UNREACHABLE in auth.get("mcp_server_url", ""):
        unanswered = {"method": "initialize", "http_response": None}
        return {"status": "unknown", "mcp_probe": unanswered, "refresh": None}
    if token and REFUSED not in token and EXPIRED not in token:
        return {"status": "valid", "mcp_probe": None, "refresh": None}
    probe = {"method": "initialize", "http_response": _http(401, token)} if token else None
    if EXPIRED not in token:
        return {"status": "invalid", "mcp_probe": probe, "refresh": None}
    refreshed = _refreshed(credential)
    status = "valid" if refreshed["status"] == "succeeded" else "invalid"
    return {
        "status": status,
        "mcp_probe": None if status == "valid" else probe,
        "refresh": refreshed,
    }


def _refreshed(credential: Credential) -> JSON:
    token = credential.secrets.get("refresh_token")
    if token is None:
        return {"status": "no_refresh_token", "http_response": None}
    if REFUSED in token:
        return {"status": "failed", "http_response": _http(400, token)}
    credential.secrets["access_token"] = f"refreshed by {token}"
    return {"status": "succeeded", "http_response": None}


def _http(status: int, token: str) -> JSON:
    """Servers are seen to repeat what they refuse."""
    return {
        "status_code": status,
        "content_type": "text/plain",
        "body": f"invalid_token: {token}",
        "body_truncated": False,
    }
