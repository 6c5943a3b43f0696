"""Responses: encoded once, with the headers that every one has."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import msgspec
from starlette.responses import Response

encode = msgspec.json.encode


class JsonBytes(Response):
    """A response whose body is JSON already."""

    media_type = "application/json"


def answer(body: object, status: int = 200) -> Response:
    return JsonBytes(encode(body), status)


def listing(items: list[dict[str, Any]], next_page: str | None, **more: str | None) -> Response:
    """A page of resources."""
    return answer({"data": items, "next_page": next_page, **more})


def joined(items: Iterable[bytes], next_page: str | None) -> Response:
    """A page of events that are encoded already: byte for byte as they were made."""
    body = b"".join((b'{"data":[', b",".join(items), b'],"next_page":', encode(next_page), b"}"))
    return JsonBytes(body)
