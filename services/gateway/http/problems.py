"""Failures as clients see them: one form, RFC 9457, with a `type` that never changes.

The table below is the only place where a reason becomes a status.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import msgspec
from fastapi.exceptions import RequestValidationError
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response

from shared import logs
from shared.errors import Rejected, Transient
from shared.session.field_error import field_and_fix

JSON = "application/json"
PROBLEM_JSON = "application/problem+json"
URN = "urn:turnstile:problem:"

# word: status, title
KNOWN: dict[str, tuple[int, str]] = {
    "invalid_request": (400, "The request is not valid"),
    "cursor_ahead": (400, "The cursor is ahead of the newest event"),
    "unauthorized": (401, "A valid API key is needed"),
    "forbidden": (403, "The API key does not allow this"),
    "connect_denied": (403, "It was not allowed at the server"),
    "connect_elsewhere": (403, "Another browser began with this"),
    "not_found": (404, "There is no such resource"),
    "unknown_session": (404, "There is no such session"),
    "unknown_turn": (404, "There is no such turn"),
    "unknown_vault": (404, "There is no such vault"),
    "unknown_credential": (404, "There is no such credential"),
    "unknown_reference": (404, "What the request refers to is not there"),
    "connect_unknown": (404, "There is no such link"),
    "method_not_allowed": (405, "The resource does not take this method"),
    "session_archived": (409, "The session is archived"),
    "session_erased": (409, "The session is erased"),
    "already_answered": (409, "The tool call was answered already"),
    "no_longer_asked": (409, "The tool call is no longer asked"),
    "budget_not_raised": (409, "The budget is not above what it is"),
    "credential_exists": (409, "The vault has a credential for this"),
    "connect_expired": (410, "The link is too old"),
    "connect_used": (410, "The link was used"),
    "oauth_server_refused": (400, "The server does not take part in this"),
    "refused_by_provider": (400, "The provider does not take this"),
    "head_timeout": (408, "The request's head was not whole in time"),
    "body_timeout": (408, "The request's body was not whole in time"),
    "too_large": (413, "The request is too large"),
    "head_too_large": (431, "The request's line and headers are too large"),
    "internal": (500, "Something went wrong here"),
    "kafka_unavailable": (503, "The log does not answer"),
    "database_unavailable": (503, "The database does not answer"),
    "archive_unavailable": (503, "The archive does not answer"),
    "connect_unavailable": (503, "Connecting is not set up here"),
    "oauth_server_unavailable": (503, "The server can't be asked now"),
    "provider_unavailable": (503, "The provider can't be asked now"),
    "history_unavailable": (503, "Part of the history can't be read now"),
    "too_many_streams": (503, "Too many streams are open"),
    "stream_share": (429, "The tenant or the key has too many streams open"),
    "overloaded": (503, "Too many requests are waiting"),
}
_HEADERS = {
    "unauthorized": {"WWW-Authenticate": 'Bearer realm="turnstile"'},
    # What still comes of the body is not waited for.
    "body_timeout": {"Connection": "close"},
}
_log = logs.get("gateway.http")


def problem(
    word: str,
    detail: str,
    *,
    errors: list[dict[str, str]] | None = None,
    headers: Mapping[str, str] | None = None,
    status: int | None = None,
    extra: Mapping[str, object] | None = None,
) -> Response:
    """The answer for a reason of the table; `status` for one that isn't in it, `extra` further members."""
    body = _body(word, detail, errors, status, extra)
    return Response(
        msgspec.json.encode(body), body["status"], dict(headers or {}), media_type=PROBLEM_JSON
    )


def problem_json(error: Rejected) -> bytes:
    """The body of the problem that a refusal is."""
    return msgspec.json.encode(
        _body(error.reason, _detail(error), _errors(error), status_of(error), error.extra)
    )


def _body(
    word: str,
    detail: str,
    errors: list[dict[str, str]] | None,
    status: int | None,
    extra: Mapping[str, object] | None,
) -> dict[str, Any]:
    known, title = KNOWN.get(word, (status or 500, word.replace("_", " ").capitalize()))
    body: dict[str, Any] = {
        "type": URN + word,
        "title": title,
        "status": status or known,
        "detail": detail,
        **(extra or {}),
    }
    if errors:
        body["errors"] = errors
    return body


def as_json(value: object, status: int = 200) -> Response:
    """A good answer."""
    return Response(msgspec.json.encode(value), status, media_type=JSON)


def rejected(error: Rejected) -> Response:
    """The request can't be served, now or later."""
    return problem(
        error.reason,
        _detail(error),
        errors=_errors(error),
        headers=_HEADERS.get(error.reason),
        status=status_of(error),
        extra=error.extra,
    )


def _detail(error: Rejected) -> str:
    return f"{error.field}: {error}" if error.field else str(error)


def _errors(error: Rejected) -> list[dict[str, str]] | None:
    return [{"field": error.field, "message": str(error)}] if error.field else None


def transient(error: Transient) -> Response:
    """The request was fine: try again."""
    after = str(max(1, round(error.retry_after or 1)))
    return problem(
        error.reason, str(error), headers={"Retry-After": after}, status=status_of(error)
    )


def status_of(error: Rejected | Transient) -> int:
    """The status of the answer to it."""
    known = KNOWN.get(error.reason)
    return known[0] if known else 400 if isinstance(error, Rejected) else 503


def unreadable(error: msgspec.DecodeError) -> Rejected:
    """What is wrong with a JSON body, naming the field (`content[0].source`)."""
    if not isinstance(error, msgspec.ValidationError):
        return Rejected("invalid_request", f"the body is not valid JSON: {error}")
    field, fix = field_and_fix(error)
    return Rejected("invalid_request", fix, field=field or "body")


def answer(error: Exception) -> Response:
    """The answer to any exception; what isn't raised on purpose is logged, and the client sees `internal` only."""
    if isinstance(error, Rejected):
        return rejected(error)
    if isinstance(error, Transient):
        return transient(error)
    if isinstance(error, msgspec.DecodeError):
        return rejected(unreadable(error))
    if isinstance(error, RequestValidationError):
        return _of_fastapi(error)
    if isinstance(error, HTTPException):
        return _of_starlette(error)
    _log.error("request_failed", error=type(error).__name__, exc_info=error)
    return problem("internal", "the error was logged; trying again may help")


async def handle(_: Request, error: Exception) -> Response:
    """`answer` as FastAPI wants its handlers."""
    return answer(error)


def _of_starlette(error: HTTPException) -> Response:
    words = {404: "not_found", 405: "method_not_allowed", 413: "too_large"}
    word = words.get(error.status_code, "invalid_request")
    details = {
        404: "no route has this path; see /openapi.json",
    }
    detail = details.get(error.status_code, str(error.detail))
    return problem(word, detail, headers=error.headers, status=error.status_code)


def _of_fastapi(error: RequestValidationError) -> Response:
    errors = [{"field": str(one["loc"][-1]), "message": str(one["msg"])} for one in error.errors()]
    detail = "; ".join(f"{one['field']}: {one['message']}" for one in errors)
    return problem("invalid_request", detail, errors=errors)
