"""What the OpenAPI document says about connecting MCP servers."""

from __future__ import annotations

from typing import Any

from services.gateway import vault_bodies as shapes
from services.gateway.http.described_route import ALWAYS, Route
from services.gateway.http.request import CONNECT, CONNECT_CALLBACK, CONNECT_PAGE

_HTML: dict[str, Any] = {"text/html": {"schema": {"type": "string"}}}
_PAGES = {
    "400": "The authorization server refused; the page says what to do",
    "403": "Not allowed at the server, or begun in another browser",
    "404": "There is no such link, or its vault is gone",
    "409": "Something else put a credential in at the same time",
    "410": "The link was used, or is too old",
    "503": "Something can't be asked now; the page says what",
}
_FAILS: dict[str, dict[str, Any]] = {
    status: {"description": about, "content": _HTML} for status, about in _PAGES.items()
}
_ELSE: dict[str, dict[str, Any]] = {
    "default": {"description": "A page that says why not", "content": _HTML}
}
_ON: dict[str, dict[str, Any]] = {"303": {"description": "On to the next page"}}
# Of a page without a key.
_ALWAYS = tuple(word for word in ALWAYS if word not in ("unauthorized", "forbidden"))
_TAG = "vaults"

DESCRIBED_CONNECT: dict[tuple[str, str], Route] = {
    ("POST", CONNECT): Route(
        "create_connect_link",
        _TAG,
        "Make a link to connect an MCP server by OAuth",
        "Give it to the person whose account it is: who opens it allows the access at the server, in one browser "
        "and once, and the credential is put into the vault, in the place of the one for that server. The provider "
        "refreshes it. Where the server's metadata are found only `mcp_server_url` is needed.",
        201,
        shapes.NewConnect,
        shapes.ConnectLink,
        refuses=(
            *ALWAYS,
            *("invalid_request", "unknown_vault", "body_timeout", "too_large"),
            *("database_unavailable", "connect_unavailable"),
            *("oauth_server_refused", "oauth_server_unavailable", "refused_by_provider"),
        ),
    ),
    ("GET", CONNECT_PAGE): Route(
        "get_connect_page",
        _TAG,
        "A page that says what will be connected, for whom",
        media="text/html",
        refuses=_ALWAYS,
        also=_FAILS,
    ),
    ("POST", CONNECT_PAGE): Route(
        "begin_to_connect",
        _TAG,
        "Go to the authorization server",
        "The page's button. From then on the link is this browser's alone.",
        303,
        media="text/html",
        refuses=_ALWAYS,
        also={
            **_FAILS,
            **_ON,
            "default": {"description": "A page that says why not", "content": _HTML},
        },
    ),
    ("GET", CONNECT_CALLBACK): Route(
        "finish_to_connect",
        _TAG,
        "Come back from the authorization server",
        "With `code` or `error`, `state`, and `iss` where the server says it.",
        media="text/html",
        refuses=_ALWAYS,
        also={**_FAILS, **_ON},
    ),
}
