"""Checks of requests from outside beyond their shape, made once, before anything is filed or shown.

Both services ask here: what the worker puts into the dead letters, the gateway must not show as accepted.
"""

from __future__ import annotations

from datetime import timedelta

import msgspec

from shared.moment import normal, parse
from shared.session.inputs import REQUESTS, Request, ToolAnswered, TurnRequested

# No content block of the provider is half as deep; the JSON decoder itself gives up below a thousand, earlier
# the deeper its caller stands.
MAX_DEPTH = 32
# How far a publisher's clock may be ahead of ours: further, and it is no time that anything was asked at.
MOST_AHEAD = timedelta(days=1)
# The gateway's clock and the log's are both ours; what is further ahead was not stamped by the gateway.
CLOCKS_DIFFER = timedelta(minutes=1)


def admit(kind: str, value: bytes, received_at: str) -> Request:
    """The request in the value of a record that came at `received_at` ("" when nobody says: any time is taken).

    Raises KeyError for an unknown kind, msgspec.ValidationError naming the field, or another
    msgspec.DecodeError or UnicodeDecodeError for what is no JSON.
    """
    try:
        request = msgspec.json.decode(value, type=REQUESTS[kind])
    except RecursionError:
        raise msgspec.ValidationError("the value is nested too deeply") from None
    try:
        asked = parse(request.at)
    except ValueError as error:
        raise msgspec.ValidationError(f"{error} - at `$.at`") from error
    if received_at and asked - parse(received_at) > MOST_AHEAD:
        raise msgspec.ValidationError(
            f"{request.at!r} is more than a day ahead of {received_at}, when it came - at `$.at`"
        )
    if isinstance(request, TurnRequested | ToolAnswered) and _too_deep(request.content):
        raise msgspec.ValidationError("nested too deeply - at `$.content`")
    if isinstance(request, TurnRequested) and not _says_something(request.content):
        raise msgspec.ValidationError("says nothing, all or a block of it - at `$.content`")
    return request


def received(request: Request, received_at: str, *, by_gateway: bool) -> str:
    """When we had the request, by a clock of ours: the gateway stamps what it takes, anything else came when the
    log had it."""
    if not received_at:
        return normal(request.at)
    ahead = parse(request.at) - parse(received_at)
    return normal(request.at) if by_gateway and ahead <= CLOCKS_DIFFER else received_at


def _too_deep(value: object) -> bool:
    level = [value]
    for _ in range(MAX_DEPTH):
        level = [inner for outer in level for inner in _inside(outer)]
        if not level:
            return False
    return True


def _inside(value: object) -> list[object]:
    if isinstance(value, dict):
        return list(value.values())
    return value if isinstance(value, list) else []


def _says_something(content: object) -> bool:
    """The provider refuses text blocks that are empty or all white space."""
    if isinstance(content, str):
        return bool(content.strip())
    return isinstance(content, list) and all(
        isinstance(block.get("type"), str)
        and (block["type"] != "text" or bool(str(block.get("text") or "").strip()))
        for block in content
    )
