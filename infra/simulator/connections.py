"""Credentials, and what MCP servers say to them. There are no servers: what they would say is in the words of the
secrets themselves, and the same every time."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

JSON = dict[str, Any]

# A token with this word in it is refused by its server; a refresh token with it is refused by the token endpoint.
REFUSED = "refused"
# One with this word has run out, and is exchanged for another by a refresh token.
EXPIRED = "expired"
# A host with this word does not answer.
UNREACHABLE = "unreachable"


@dataclass(slots=True)
class Credential:
    """What a vault holds for one MCP server or one environment variable: what is shown, and what never is."""

    body: JSON
    secrets: dict[str, str]

    @property
    def place(self) -> str:
        """What it is unique by in its vault: the server's URL, or the variable's name."""
        auth = self.body["auth"]
        return str(auth.get("mcp_server_url") or auth["secret_name"])


def works(credential: Credential) -> bool:
    """Whether the server takes it, after a refresh if need be."""
    return bool(probed(credential)["status"] == "valid")


def probed(credential: Credential) -> JSON:
    """`status`, `mcp_probe` and `refresh` of a validation."""
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
