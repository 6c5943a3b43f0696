"""A query sent as a form: clickhouse-connect does so when its parameters are too long for a URL."""

from __future__ import annotations

import re

from infra.clickhouse.server.errors import INCORRECT_DATA, NOT_IMPLEMENTED, refuse
from infra.clickhouse.server.request import Asked, take

_BOUNDARY = re.compile(r'boundary="?([^";]+)"?', re.IGNORECASE)
_NAME = re.compile(rb'\bname="([^"]*)"')


def read_form(asked: Asked, body: bytes) -> list[bytes]:
    """Take every field of the form as if it were a URL parameter; nothing is left as body.

    Raises ClickHouseError 48 for a file: external data is not supported.
    """
    found = _BOUNDARY.search(asked.headers.get("content-type", ""))
    if found is None:
        raise refuse(INCORRECT_DATA, "multipart/form-data without a boundary", status=400)
    mark = b"--" + found.group(1).encode("latin-1")
    for part in (b"\r\n" + body).split(b"\r\n" + mark)[1:]:
        if part.startswith(b"--"):
            break
        _take_part(asked, part.removeprefix(b"\r\n"))
    return []


def _take_part(asked: Asked, part: bytes) -> None:
    headers, _, value = part.partition(b"\r\n\r\n")
    name = _NAME.search(headers)
    if name is None:
        raise refuse(INCORRECT_DATA, "a form field without a name", status=400)
    if b"filename=" in headers:
        raise refuse(
            NOT_IMPLEMENTED,
            f"external data ({name.group(1).decode(errors='replace')}) is not supported here: "
            "insert it into a temporary table of a session",
        )
    take(asked, name.group(1).decode(), value.decode())
