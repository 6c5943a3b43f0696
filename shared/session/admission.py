"""Checks of requests from outside beyond their shape, made once, before anything is filed or shown.

All who take requests from outside ask here, the gateway for those it publishes too: what the worker puts into the
dead letters, the gateway must neither accept nor show as accepted.
"""

from __future__ import annotations

from datetime import timedelta

import msgspec

from shared.moment import normal, parse
from shared.session.content import MAX_CONTENT, require_answer, require_turn
from shared.session.inputs import (
    REQUESTS,
    Request,
    SessionRequested,
    ToolAnswered,
    ToolConfirmed,
    TurnRequested,
)
from shared.session.resources import require_resources

# How far a publisher's clock may be ahead of ours: further, and it is no time that anything was asked at.
MOST_AHEAD = timedelta(days=1)
# The gateway's clock and the log's are both ours; what is further ahead was not stamped by the gateway.
CLOCKS_DIFFER = timedelta(minutes=1)
_DECODERS = {kind: msgspec.json.Decoder(shape) for kind, shape in REQUESTS.items()}


def admit(kind: str, value: bytes, received_at: str) -> Request:
    """The request in the value of a record that came at `received_at` ("" when nobody says: any time is taken).

    Raises KeyError for an unknown kind, msgspec.ValidationError naming the field (see `field_error`), or another
    msgspec.DecodeError or UnicodeDecodeError for what is no JSON.
    """
    try:
        request: Request = _DECODERS[kind].decode(value)
    except RecursionError:
        raise msgspec.ValidationError("the value is nested too deeply") from None
    _require_time(request.at, received_at)
    require_sense(request)
    if len(value) > MAX_CONTENT and isinstance(request, TurnRequested | ToolAnswered):
        said = request.said if isinstance(request, TurnRequested) else request.content
        _require_room(said)
    return request


def require_sense(request: Request) -> None:
    """Raise msgspec.ValidationError naming the field of a request that its own types let through and nobody can
    use, whenever it was asked."""
    if isinstance(request, TurnRequested):
        require_turn(request.content, request.outcome, request.on_busy)
    elif isinstance(request, SessionRequested):
        require_resources(request.resources)
    elif isinstance(request, ToolAnswered):
        require_answer(request.content)
    elif isinstance(request, ToolConfirmed) and request.result == "allow" and request.deny_message:
        raise _wrong("is for a denial alone: leave it out, or say deny", "deny_message")


def received(request: Request, received_at: str, *, by_gateway: bool) -> str:
    """When we had the request, by a clock of ours: the gateway stamps what it takes, anything else came when the
    log had it."""
    if not received_at:
        return normal(request.at)
    ahead = parse(request.at) - parse(received_at)
    return normal(request.at) if by_gateway and ahead <= CLOCKS_DIFFER else received_at


def _require_time(at: str, received_at: str) -> None:
    try:
        asked = parse(at)
    except ValueError as error:
        raise _wrong(str(error), "at") from error
    if received_at and asked - parse(received_at) > MOST_AHEAD:
        raise _wrong(f"{at!r} is more than a day ahead of {received_at}, when it came", "at")


def _require_room(content: object) -> None:
    if len(msgspec.json.encode(content)) > MAX_CONTENT:
        words = f"may have {MAX_CONTENT} bytes as JSON: send less, or refer to a file"
        raise _wrong(words, "content")


def _wrong(words: str, field: str) -> msgspec.ValidationError:
    return msgspec.ValidationError(f"{words} - at `$.{field}`")
