"""The two steps of the authorization code grant with PKCE (RFC 6749, 7636, 8707): where a browser is sent, and what
its code is exchanged for."""

from __future__ import annotations

import base64
from datetime import datetime, timedelta
from hashlib import sha256
from urllib.parse import quote, urlencode

from msgspec import Struct

from services.gateway.connect.answers import OauthAnswer
from services.gateway.connect.ports import OauthHttp
from services.gateway.connect.records import Client, Connection
from services.gateway.vault_bodies import (
    BasicClientAuth,
    McpOauth,
    NewCredential,
    NoClientAuth,
    PostClientAuth,
    Refresh,
)
from shared.errors import Rejected, Transient
from shared.moment import rfc3339
from shared.secret import Secret

# Longer than any token lives.
_LONGEST = timedelta(days=3650)
# RFC 6749, sections 4.1.2.1 and 5.2, and 8707: words that may be told; anything else is the server's own.
CODES = frozenset(
    {
        *("invalid_request", "unauthorized_client", "access_denied", "unsupported_response_type"),
        *("invalid_scope", "server_error", "temporarily_unavailable", "invalid_client"),
        *("invalid_grant", "unsupported_grant_type", "invalid_target"),
    }
)


class Tokens(Struct, frozen=True):
    """RFC 6749, section 5.1."""

    access_token: Secret
    token_type: str = "bearer"
    expires_in: int | float | str | None = None
    refresh_token: Secret | None = None
    scope: str | None = None


class _Refusal(Struct, frozen=True):
    error: str = ""


def authorization_url(connection: Connection, state: str, verifier: Secret) -> str:
    """Where the browser asks for a code that only the holder of `verifier` can exchange."""
    digest = sha256(verifier.reveal().encode()).digest()
    asked = {
        "response_type": "code",
        "client_id": connection.client.id,
        "redirect_uri": connection.redirect_uri,
        "state": state,
        "code_challenge": base64.urlsafe_b64encode(digest).rstrip(b"=").decode(),
        "code_challenge_method": "S256",
        **_what_for(connection),
    }
    endpoint = connection.server.authorization_endpoint
    return endpoint + ("&" if "?" in endpoint else "?") + urlencode(asked)


async def exchanged(
    http: OauthHttp, connection: Connection, code: Secret, verifier: Secret
) -> Tokens:
    """The tokens for a code. Raises Rejected (`oauth_server_refused`), or Transient (`oauth_server_unavailable`);
    neither says a word of the server's beyond CODES."""
    form = {
        "grant_type": "authorization_code",
        "code": code.reveal(),
        "redirect_uri": connection.redirect_uri,
        "client_id": connection.client.id,
        "code_verifier": verifier.reveal(),
        **({"resource": connection.resource} if connection.resource else {}),
    }
    headers: dict[str, str] = {}
    client = connection.client
    if client.secret is not None and client.auth == "client_secret_post":
        form["client_secret"] = client.secret.reveal()
    elif client.secret is not None:
        del form["client_id"]
        headers["Authorization"] = _basic(client.id, client.secret)
    return _tokens(await http.post(connection.server.token_endpoint, form=form, headers=headers))


def credential(connection: Connection, tokens: Tokens, now: datetime) -> NewCredential:
    """What the provider is given: it asks for the next access tokens by itself, where the server lets it."""
    auth = McpOauth(
        access_token=tokens.access_token,
        mcp_server_url=connection.mcp_server_url,
        expires_at=_expiry(tokens, now),
        refresh=_refresh(connection, tokens.refresh_token) if tokens.refresh_token else None,
    )
    return NewCredential(auth=auth)


def _refresh(connection: Connection, refresh_token: Secret) -> Refresh:
    return Refresh(
        client_id=connection.client.id,
        refresh_token=refresh_token,
        token_endpoint=connection.server.token_endpoint,
        token_endpoint_auth=_client_auth(connection.client),
        resource=connection.resource or None,
    )


def _client_auth(client: Client) -> NoClientAuth | BasicClientAuth | PostClientAuth:
    if client.secret is None:
        return NoClientAuth()
    kind = PostClientAuth if client.auth == "client_secret_post" else BasicClientAuth
    return kind(client_secret=client.secret)


def _expiry(tokens: Tokens, now: datetime) -> str | None:
    try:
        lasts = timedelta(seconds=float(tokens.expires_in or 0))
    except (ValueError, OverflowError):
        return None
    return rfc3339(now + lasts) if timedelta(0) < lasts < _LONGEST else None


def _what_for(connection: Connection) -> dict[str, str]:
    asked = {"scope": connection.scope, "resource": connection.resource}
    return {name: value for name, value in asked.items() if value}


def _basic(client_id: str, secret: Secret) -> str:
    """RFC 6749, section 2.3.1: each part is form-encoded first."""
    pair = f"{quote(client_id, safe='')}:{quote(secret.reveal(), safe='')}"
    return "Basic " + base64.b64encode(pair.encode()).decode()


def _tokens(answer: OauthAnswer) -> Tokens:
    if answer.status == 200:
        found = answer.read(Tokens)
        if found is not None and found.token_type.lower() == "bearer":
            return found
        raise _refused("what it answers is no bearer token")
    if answer.status == 429 or answer.status >= 500:
        raise Transient(
            "oauth_server_unavailable", f"the authorization server answered {answer.status}"
        )
    refusal = answer.read(_Refusal)
    code = refusal.error if refusal is not None and refusal.error in CODES else ""
    raise _refused(f"it answered {answer.status}" + (f" ({code})" if code else ""))


def _refused(words: str) -> Rejected:
    return Rejected("oauth_server_refused", f"the authorization server gives no token: {words}")
