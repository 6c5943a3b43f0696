"""Status, headers and body of the reply."""

from __future__ import annotations

import json
from typing import Any, Protocol

import cramjam

from infra.clickhouse.server.errors import ClickHouseError

_TEXT = "text/plain; charset=UTF-8"
_TYPES = {
    "json": "application/json; charset=UTF-8",
    "jsoncompact": "application/json; charset=UTF-8",
    "jsonstrings": "application/json; charset=UTF-8",
    "jsoneachrow": "application/x-ndjson; charset=UTF-8",
    "jsoncompacteachrow": "application/x-ndjson; charset=UTF-8",
    "csv": "text/csv; charset=UTF-8; header=absent",
    "csvwithnames": "text/csv; charset=UTF-8; header=present",
    "tabseparated": "text/tab-separated-values; charset=UTF-8",
    "tsv": "text/tab-separated-values; charset=UTF-8",
    "tabseparatedwithnames": "text/tab-separated-values; charset=UTF-8",
    "xml": "application/xml; charset=UTF-8",
    "native": "application/octet-stream",
    "rowbinary": "application/octet-stream",
    "parquet": "application/octet-stream",
    "arrow": "application/octet-stream",
    "arrowstream": "application/octet-stream",
}
# Below this a compressed body is rarely smaller.
_WORTH_COMPRESSING = 1024

Headers = list[tuple[bytes, bytes]]


class Packer(Protocol):
    """A compressor of one frame. `flush` gives what is ready, `finish` the rest and the end."""

    def compress(self, data: bytes, /) -> int: ...
    def flush(self) -> Any: ...
    def finish(self) -> Any: ...


_PACKERS: dict[str, Any] = {
    "lz4": cramjam.lz4.Compressor,
    "zstd": cramjam.zstd.Compressor,
    "gzip": cramjam.gzip.Compressor,
}


def packer(accepted: str, *, enabled: bool, size: int) -> tuple[str, Packer | None]:
    """The encoding to use for `Accept-Encoding: accepted`, cheapest first; "" for none."""
    if not enabled or size < _WORTH_COMPRESSING:
        return "", None
    offered = {item.split(";")[0].strip().lower() for item in accepted.split(",")}
    for name, make in _PACKERS.items():
        if name in offered:
            return name, make()
    return "", None


def base_headers(query_id: str, timezone: str) -> Headers:
    return [
        (b"x-clickhouse-server-display-name", b"turnstile-embedded"),
        (b"x-clickhouse-query-id", query_id.encode("latin-1", "replace")),
        (b"x-clickhouse-timezone", timezone.encode()),
    ]


def result_headers(said: str | None, summary: dict[str, str]) -> Headers:
    headers: Headers = []
    if said is not None:
        headers.append((b"x-clickhouse-format", said.encode()))
    headers.append((b"content-type", _TYPES.get((said or "").lower(), _TEXT).encode()))
    if summary:
        headers.append((b"x-clickhouse-summary", json.dumps(summary).encode()))
    return headers


def error_reply(error: ClickHouseError, version: str) -> tuple[int, Headers, bytes]:
    headers: Headers = [
        (b"content-type", _TEXT.encode()),
        (b"x-clickhouse-exception-code", str(error.code).encode()),
    ]
    if error.status == 401:
        headers.append((b"www-authenticate", b'Basic realm="ClickHouse server HTTP API"'))
    return error.status, headers, f"{error.text} (version {version})\n".encode()


def broken_stream(error: ClickHouseError, tag: str) -> bytes:
    """What ends a body whose query failed after its head was sent.

    ClickHouse's form since 25.11: the message between two marks that carry the tag announced in
    `X-ClickHouse-Exception-Tag`, so that data can never be taken for it.
    """
    message = error.text.encode() + b"\n"
    mark = tag.encode()
    size = str(len(message)).encode()
    return b"\r\n__exception__\r\n%s\r\n%s%s %s\r\n__exception__\r\n" % (mark, message, size, mark)
