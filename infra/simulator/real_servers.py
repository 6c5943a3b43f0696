"""MCP servers and token endpoints on this machine: they are there, so they are asked. Tests run such servers; what
others would say is in the words of the secrets (`connections`)."""

from __future__ import annotations

from typing import Any
from urllib.parse import urlsplit

import httpx2

from infra.simulator import stamps
from infra.simulator.connections import Credential

JSON = dict[str, Any]

SECONDS = 5.0
HERE = frozenset({"127.0.0.1", "localhost", "::1"})
_INITIALIZE = {
    "jsonrpc": "2.0",
    "id": 1,
    "method": "initialize",
    "params": {
        "protocolVersion": "2025-11-25",
        "capabilities": {},
        "clientInfo": {"name": "provider", "version": "1"},
    },
}
_LONGEST_BODY = 2048


async def try_credential(credential: Credential, now: int) -> None:
    """Note what the credential's server says to it now (microseconds), after a refresh if need be; nothing where
    the server is not on this machine."""
    auth = credential.body["auth"]
    if urlsplit(auth.get("mcp_server_url") or "").hostname not in HERE:
        return
    async with httpx2.AsyncClient(timeout=SECONDS, trust_env=False) as http:
        until = auth.get("expires_at")
        refreshed = None
        if until is not None and stamps.read(until) <= now:
            refreshed = await _refresh(http, credential, now)
        probe = await _probe(http, credential)
        if refreshed is None and _status(probe) == "invalid":
            refreshed = await _refresh(http, credential, now)
            if refreshed["status"] == "succeeded":
                probe = await _probe(http, credential)
    status = _status(probe)
    credential.found = {
        "status": status,
        "mcp_probe": None if status == "valid" else probe,
        "refresh": refreshed,
    }


async def _probe(http: httpx2.AsyncClient, credential: Credential) -> JSON:
    secrets = credential.secrets
    token = secrets.get("access_token") or secrets.get("token") or ""
    answer = await _asked(
        http,
        credential.body["auth"]["mcp_server_url"],
        json=_INITIALIZE,
        headers={
            "Authorization": f"Bearer {token}",
            "Accept": "application/json, text/event-stream",
        },
    )
    return {"method": "initialize", "http_response": answer and _response(answer)}


def _status(probe: JSON) -> str:
    """Of a validation."""
    answer = probe["http_response"]
    if answer is None or answer["status_code"] >= 500:
        return "unknown"
    return "valid" if answer["status_code"] < 300 else "invalid"


async def _refresh(http: httpx2.AsyncClient, credential: Credential, now: int) -> JSON:
    """Exchange the refresh token for other tokens; what came of it (RFC 6749, section 6)."""
    secrets, how = credential.secrets, credential.body["auth"].get("refresh")
    if how is None or "refresh_token" not in secrets:
        return {"status": "no_refresh_token", "http_response": None}
    form = {"grant_type": "refresh_token", "refresh_token": secrets["refresh_token"]}
    form |= {name: how[name] for name in ("resource", "scope") if how.get(name)}
    more: JSON = {}
    kind = how["token_endpoint_auth"]["type"]
    if kind == "client_secret_basic":
        more["auth"] = (how["client_id"], secrets["client_secret"])
    else:
        form["client_id"] = how["client_id"]
    if kind == "client_secret_post":
        form["client_secret"] = secrets["client_secret"]
    answer = await _asked(http, how["token_endpoint"], data=form, **more)
    if answer is None:
        return {"status": "connect_error", "http_response": None}
    if answer.status_code != 200:
        return {"status": "failed", "http_response": _response(answer)}
    _keep(credential, answer.json(), now)
    return {"status": "succeeded", "http_response": None}


def _keep(credential: Credential, given: JSON, now: int) -> None:
    names = ("access_token", "refresh_token")
    credential.secrets.update({name: given[name] for name in names if given.get(name)})
    lasts = given.get("expires_in")
    until = None if lasts is None else stamps.written(now + int(lasts) * stamps.SECOND)
    credential.body["auth"]["expires_at"] = until


async def _asked(http: httpx2.AsyncClient, url: str, **sent: Any) -> httpx2.Response | None:
    try:
        return await http.post(url, **sent)
    except httpx2.HTTPError:
        return None


def _response(answer: httpx2.Response) -> JSON:
    return {
        "status_code": answer.status_code,
        "content_type": answer.headers.get("content-type", ""),
        "body": answer.text[:_LONGEST_BODY],
        "body_truncated": len(answer.text) > _LONGEST_BODY,
    }
