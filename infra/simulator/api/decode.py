"""Decodes and checks request bodies."""

from __future__ import annotations

from typing import TypeVar

import msgspec
from starlette.requests import Request

from infra.simulator.errors import ApiError, bad

MAX_BODY_BYTES = 32 * 1024 * 1024  # the API's limit for every endpoint

T = TypeVar("T")


async def body_of(request: Request, decoder: msgspec.json.Decoder[T]) -> T:
    """The decoded body.

    Raises ApiError 400 that names the field for a wrong type, an unknown field or a limit, and 413
    beyond 32 MB.
    """
    if "json" not in request.headers.get("content-type", ""):
        raise bad("content-type: must be application/json")
    return decoded(await read_body(request), decoder)


def decoded(body: bytes, decoder: msgspec.json.Decoder[T]) -> T:
    """`body` in the decoder's type. Raises ApiError 400 in the words of the API."""
    try:
        return decoder.decode(body)
    except msgspec.ValidationError as error:
        raise bad(_worded(str(error))) from None
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise bad(f"the request body is not valid JSON: {error}") from None


async def read_body(request: Request) -> bytes:
    """The whole body. Raises ApiError 413 beyond 32 MB."""
    chunks: list[bytes] = []
    size = 0
    async for chunk in request.stream():
        size += len(chunk)
        if size > MAX_BODY_BYTES:
            raise ApiError(413, f"request body exceeds {MAX_BODY_BYTES} bytes")
        chunks.append(chunk)
    return b"".join(chunks)


def _worded(message: str) -> str:
    """msgspec says `problem - at `$.path``; the API says `path: problem`."""
    problem, at, path = message.partition(" - at `$")
    where = path.rstrip("`").lstrip(".").replace("[...]", ".*").replace("[", ".").replace("]", "")
    return f"{where.lstrip('.')}: {problem}" if at and where else problem
