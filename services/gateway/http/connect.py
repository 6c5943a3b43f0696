"""Routes of connecting: one that makes links, for callers with a key, and three pages for people without."""

from __future__ import annotations

import base64
import re
from collections.abc import Awaitable, Callable, Mapping
from hashlib import sha256
from urllib.parse import urlsplit

import msgspec
from starlette.requests import Request
from starlette.responses import HTMLResponse, RedirectResponse, Response

from services.gateway.connect import pages
from services.gateway.connect.links import Connects, NotConnected, Returned
from services.gateway.connect.records import Connection
from services.gateway.http.auth import caller_of
from services.gateway.http.problems import as_json, status_of
from services.gateway.http.vaults import unechoed
from services.gateway.ids import require_id
from services.gateway.vault_bodies import NewConnect
from shared.errors import Rejected, Transient
from shared.secret import Secret, read_secret

Endpoint = Callable[[Request], Awaitable[Response]]
COOKIE = "turnstile_connect"
# Longer than any server's code or state.
_MOST = 4096
_HOST = re.compile(r"(\[[0-9A-Fa-f:.]+\]|[A-Za-z0-9._-]+)(:[0-9]{1,5})?")
_BROWSER = re.compile(r"[A-Za-z0-9_-]{43}")
_STYLE = re.compile(r"<style>(.*?)</style>", re.DOTALL)
_new_connect = msgspec.json.Decoder(NewConnect, dec_hook=read_secret)


def connect_maker(connects: Connects, public_url: str) -> Endpoint:
    """POST /v1/vaults/{vault_id}/connect. Raises what `unechoed` and Connects raise. Links are below `public_url`,
    below the host that the caller asked where it is ""."""

    async def create_connect_link(request: Request) -> Response:
        vault_id = require_id(request.path_params["vault_id"], "vault_id")
        asked = await unechoed(request, _new_connect)
        tenant_id = caller_of(request.scope).tenant_id
        made = await connects.make(tenant_id, vault_id, asked, public_url or _asked_host(request))
        return as_json(made, 201)

    return create_connect_link


def connect_page(connects: Connects) -> Endpoint:
    """GET /connect/{token}: what it is for, and a button. Opening it changes nothing: mail and chat programs do."""

    async def get_connect_page(request: Request) -> Response:
        try:
            connection = await connects.shown(request.path_params["token"])
        except (Rejected, Transient) as error:
            return _failed(error)
        return _page(pages.offer(connection), goes_to=connection)

    return get_connect_page


def connect_beginner(connects: Connects) -> Endpoint:
    """POST /connect/{token}: on to the authorization server, for the browser that begins first."""

    async def begin_to_connect(request: Request) -> Response:
        token = request.path_params["token"]
        kept = request.cookies.get(COOKIE, "")
        browser = kept if _BROWSER.fullmatch(kept) else connects.chance()
        try:
            _require_own_page(request, await connects.shown(token))
            connection, url = await connects.begin(token, browser)
        except (Rejected, Transient) as error:
            return _failed(error)
        answer = RedirectResponse(url, 303, headers=_headers())
        answer.set_cookie(
            COOKIE,
            browser,
            max_age=int(connects.seconds),
            path="/connect",
            secure=connection.base.startswith("https:"),
            httponly=True,
            samesite="lax",
        )
        return answer

    return begin_to_connect


def connect_finisher(connects: Connects) -> Endpoint:
    """GET /connect/callback: the authorization server sends the browser back."""

    async def finish_to_connect(request: Request) -> Response:
        try:
            connection = await connects.finish(
                _returned(request.query_params), request.cookies.get(COOKIE, "")
            )
        except NotConnected as failure:
            return _failed(failure.error, f"/connect/{failure.token.reveal()}")
        except (Rejected, Transient) as error:
            return _failed(error)
        if connection.return_to:
            return RedirectResponse(connection.return_to, 303, headers=_headers())
        return _page(pages.done(connection))

    return finish_to_connect


def _returned(query: Mapping[str, str]) -> Returned:
    def given(name: str) -> str:
        value = query.get(name, "")
        return value if len(value) <= _MOST else ""

    code = given("code")
    return Returned(
        state=given("state"),
        code=Secret(code) if code else None,
        error=given("error"),
        issuer=given("iss"),
    )


def _require_own_page(request: Request, connection: Connection) -> None:
    """Raises Rejected where another site's page sends the form: nobody asked its reader."""
    site = request.headers.get("sec-fetch-site", "same-origin")
    origin = request.headers.get("origin")
    ours = connection.base
    if site not in ("same-origin", "none") or (origin or ours).lower() != _origin(ours):
        raise Rejected("connect_elsewhere", "this was sent by another site's page")


def _asked_host(request: Request) -> str:
    """Where the caller reached this gateway. Raises Rejected where it does not say so."""
    host = request.headers.get("host", "")
    if _HOST.fullmatch(host) is None:
        raise Rejected("invalid_request", "must name a host and a port", field="Host")
    return f"http://{host}"


def _origin(base: str) -> str:
    parts = urlsplit(base)
    return f"{parts.scheme}://{parts.netloc}".lower()


def _failed(error: Rejected | Transient, again: str = "") -> Response:
    return _page(pages.failed(error, again), status_of(error))


def _page(html: str, status: int = 200, goes_to: Connection | None = None) -> Response:
    return HTMLResponse(html, status, headers=_headers(html, goes_to))


def _headers(html: str = "", goes_to: Connection | None = None) -> dict[str, str]:
    """Kept nowhere, framed nowhere, with nothing that runs. A browser follows a form's redirects only where
    `form-action` lets it, and a server may send it through any others before its own page (single sign-on)."""
    policy = ["default-src 'none'", "base-uri 'none'", "frame-ancestors 'none'"]
    style = _STYLE.search(html)
    if style is not None:
        digest = base64.b64encode(sha256(style[1].encode()).digest()).decode()
        policy.append(f"style-src 'sha256-{digest}'")
    there = _origin(goes_to.server.authorization_endpoint) if goes_to else ""
    policy.append(f"form-action 'self' https: {there}" if there else "form-action 'none'")
    return {
        "Content-Security-Policy": "; ".join(policy),
        "Cache-Control": "no-store",
        "Referrer-Policy": "same-origin",
        "X-Content-Type-Options": "nosniff",
        "X-Frame-Options": "DENY",
    }
