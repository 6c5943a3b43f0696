"""A request as its endpoint reads it: its route, its headers, its body of at most 1 MiB of JSON."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from typing import TypeVar

import msgspec
from starlette.types import Receive, Scope

from services.gateway.http.problems import unreadable
from shared.errors import Rejected
from shared.session.field_error import NO_TEXT, field_of_half_character

HEADERS = "turnstile.headers"


def headers_of(scope: Scope) -> Mapping[bytes, bytes]:
    """The request's headers by lower-case name."""
    found: dict[bytes, bytes] | None = scope.get(HEADERS)
    if found is None:
        found = scope[HEADERS] = dict(scope["headers"])
    return found


AGENTS = "/v1/agents"
COSTS = "/v1/costs"
PREWARM = "/v1/prewarm"
PROFILE = "/v1/users/{user_id}/profile"
SESSIONS = "/v1/sessions"
VAULTS = "/v1/vaults"
VAULT = "/v1/vaults/{vault_id}"
CREDENTIALS = "/v1/vaults/{vault_id}/credentials"
CREDENTIAL = "/v1/vaults/{vault_id}/credentials/{credential_id}"
CONNECT = "/v1/vaults/{vault_id}/connect"
CONNECT_PAGE = "/connect/{token}"
CONNECT_CALLBACK = "/connect/callback"
TURNS = "/v1/sessions/{session_id}/turns"
_TOP = frozenset(
    {AGENTS, COSTS, PREWARM, "/healthz", "/readyz", "/metrics", "/openapi.json", "/asyncapi.json"}
)
_OF_SESSION = frozenset(
    {
        "turns",
        "events",
        "replay",
        "interrupt",
        "tool_confirmations",
        "tool_results",
        "budget",
        "archive",
    }
)
UNKNOWN = "unknown"
# No key needed: they are for people, whom a link or a cookie tells.
KEYLESS = frozenset({CONNECT_PAGE, CONNECT_CALLBACK})
# No key needed, no span made: probes ask these every few seconds.
OPEN = frozenset({"/healthz", "/readyz", "/metrics"})


def route_of(path: str) -> str:
    """The route's template, or `unknown`."""
    parts = path.split("/")
    if len(parts) == 5 and (*parts[1:3], parts[4]) == ("v1", "users", "profile"):
        return PROFILE
    if parts[1] == "connect" and len(parts) == 3:
        return path if path == CONNECT_CALLBACK else CONNECT_PAGE
    if parts[1:3] == ["v1", "vaults"]:
        return _of_vaults(parts[3:])
    if parts[1:3] != ["v1", "sessions"]:
        return path if path in _TOP else UNKNOWN
    if len(parts) == 3:
        return SESSIONS
    if len(parts) == 4:
        return "/v1/sessions/{session_id}"
    if len(parts) == 5 and parts[4] in _OF_SESSION:
        return f"/v1/sessions/{{session_id}}/{parts[4]}"
    if len(parts) == 6 and parts[4] == "turns":
        return f"{TURNS}/{{turn_id}}"
    return UNKNOWN


def _of_vaults(parts: list[str]) -> str:
    if len(parts) < 2:
        return VAULT if parts else VAULTS
    if parts[1:] == ["connect"]:
        return CONNECT
    if parts[1] != "credentials" or len(parts) > 4:
        return UNKNOWN
    if len(parts) == 4:
        return f"{CREDENTIAL}/{parts[3]}" if parts[3] in ("rotate", "validate") else UNKNOWN
    return CREDENTIAL if len(parts) == 3 else CREDENTIALS


# In the scope of a request whose body has come whole, so that nobody has to wait for it.
WHOLE = "turnstile.whole"
MAX_BODY = 1024 * 1024
BODY_SECONDS = 60.0
_T = TypeVar("_T")


class ClientGone(Exception):
    """The client hung up before its body was complete; there is nobody to answer."""


async def read_body(scope: Scope, receive: Receive, largest: str = "body") -> bytes:
    """The whole body. Raises Rejected: `too_large` as soon as it is known to be too long; what to make smaller is
    the field `largest`; `body_timeout` when it is not whole after BODY_SECONDS."""
    if WHOLE in scope:
        return await _received(scope, receive, largest)
    try:
        async with asyncio.timeout(BODY_SECONDS):
            return await _received(scope, receive, largest)
    except TimeoutError:
        words = f"the body must be whole within {BODY_SECONDS:.0f} s: send it again"
        raise Rejected("body_timeout", words, field="body") from None


async def _received(scope: Scope, receive: Receive, largest: str) -> bytes:
    announced = headers_of(scope).get(b"content-length", b"")
    if announced.isdigit() and int(announced) > MAX_BODY:
        raise _too_large(largest)
    message = await receive()
    if message["type"] == "http.disconnect":
        raise ClientGone
    if not message.get("more_body"):
        body: bytes = message.get("body", b"")
        return _checked(body, largest)
    chunks = bytearray(message.get("body", b""))
    while message.get("more_body"):
        message = await receive()
        if message["type"] == "http.disconnect":
            raise ClientGone
        chunks += message.get("body", b"")
        _checked(chunks, largest)
    return bytes(chunks)


def decode(decoder: msgspec.json.Decoder[_T], body: bytes) -> _T:
    """The body as the decoder's type. Raises Rejected (`invalid_request`) naming the field."""
    try:
        return decoder.decode(body)
    except msgspec.ValidationError as error:
        raise unreadable(error) from error
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        field = field_of_half_character(body)
        if field is not None:
            raise Rejected("invalid_request", NO_TEXT, field=field or "body") from error
        if isinstance(error, UnicodeDecodeError):
            raise Rejected("invalid_request", "is not valid UTF-8", field="body") from error
        raise unreadable(error) from error
    except RecursionError as error:
        raise Rejected("invalid_request", "is nested too deeply", field="body") from error


def _checked(body: bytes | bytearray, largest: str) -> bytes:
    if len(body) > MAX_BODY:
        raise _too_large(largest)
    return body  # type: ignore[return-value]


def _too_large(field: str) -> Rejected:
    words = f"the body may have {MAX_BODY} bytes: send less, or refer to a file"
    return Rejected("too_large", words, field=field)
