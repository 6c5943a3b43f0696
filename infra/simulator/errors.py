"""The provider's errors: their statuses and documents, and how one is sent."""

from __future__ import annotations

from collections.abc import Mapping

import msgspec
from starlette.types import Send

KINDS = {
    400: "invalid_request_error",
    401: "authentication_error",
    402: "billing_error",
    403: "permission_error",
    404: "not_found_error",
    405: "invalid_request_error",
    408: "timeout_error",
    409: "conflict_error",
    413: "request_too_large",
    429: "rate_limit_error",
    500: "api_error",
    503: "api_error",
    504: "timeout_error",
    529: "overloaded_error",
}


class ApiError(Exception):
    """A refusal with its HTTP status; nothing of the request has taken effect when it is raised."""

    def __init__(
        self,
        status: int,
        message: str,
        *,
        error_code: str | None = None,
        headers: Mapping[str, str] | None = None,
        kind: str | None = None,
    ) -> None:
        super().__init__(message)
        self.status = status
        self.message = message
        self.error_code = error_code
        self.headers = dict(headers or {})
        self.kind = kind or KINDS.get(status, "api_error")

    def body(self, request_id: str) -> bytes:
        """The error document of the API: typed, and naming the request."""
        error: dict[str, object] = {"type": self.kind, "message": self.message}
        if self.error_code:
            error["details"] = {"error_code": self.error_code}
        return msgspec.json.encode({"type": "error", "error": error, "request_id": request_id})


def bad(message: str, error_code: str | None = None) -> ApiError:
    """400: the request can never succeed as it is."""
    return ApiError(400, message, error_code=error_code)


def missing(what: str, ident: str) -> ApiError:
    """404 for a resource that is not there (or was deleted)."""
    return ApiError(404, f"{what} {ident!r} was not found")


async def refuse(refusal: ApiError, request_id: str, send: Send) -> None:
    """Sends the error document of a refusal."""
    body = refusal.body(request_id)
    headers = [
        (b"content-type", b"application/json"),
        (b"content-length", str(len(body)).encode()),
        *((name.lower().encode(), value.encode()) for name, value in refusal.headers.items()),
    ]
    await send({"type": "http.response.start", "status": refusal.status, "headers": headers})
    await send({"type": "http.response.body", "body": body})
