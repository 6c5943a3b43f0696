"""A request's URL parameters and headers, sorted by meaning."""

from __future__ import annotations

import base64
import binascii
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from urllib.parse import parse_qsl

from infra.clickhouse.server.errors import (
    AUTHENTICATION_FAILED,
    UNKNOWN_SETTING,
    refuse,
)

# Meant for the HTTP layer; the engine does not know some of them and needs none.
_TRANSPORT = frozenset(
    {"buffer_size", "quota_key", "role", "stacktrace", "close_session"}
    | {"send_progress_in_http_headers", "http_headers_progress_interval_ms"}
    | {"cancel_http_readonly_queries_on_client_close", "add_http_cors_header"}
    | {
        "http_write_exception_in_output_format",
        "http_response_buffer_size",
        "network_zstd_compression_level",
    }
)
_SETTING_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_.]*")


@dataclass(slots=True)
class Asked:
    """One request. `settings` go to the engine; `params` are values of `{name:Type}`.

    `compress`: answers may be encoded as `Accept-Encoding` says. `frames`: they are to be in
    ClickHouse's own frames, pressed by `frame_method`.
    `revision`: of the native protocol, 0 for none.
    """

    method: str
    headers: Mapping[str, str]
    user: str | None = None
    password: str | None = None
    query: bytes = b""
    database: str = ""
    format: str = ""
    query_id: str = ""
    session_id: str = ""
    session_timeout: float = 60.0
    session_check: bool = False
    wait_end_of_query: bool = False
    compress: bool = True
    frames: bool = False
    frame_method: str = "lz4"
    revision: int = 0
    params: dict[str, str] = field(default_factory=dict)
    settings: dict[str, str] = field(default_factory=dict)


def read_request(method: str, query_string: bytes, headers: Iterable[tuple[bytes, bytes]]) -> Asked:
    """Parse one request line and its headers.

    Raises ClickHouseError: 516 for credentials that cannot be read, 115 for a setting whose name
    is none.
    """
    lowered = {key.decode("latin-1").lower(): value.decode("latin-1") for key, value in headers}
    asked = Asked(method=method, headers=lowered)
    asked.user, asked.password = _credentials(lowered)
    asked.database = lowered.get("x-clickhouse-database", "")
    asked.format = lowered.get("x-clickhouse-format", "")
    pairs = parse_qsl(query_string.decode("latin-1"), keep_blank_values=True)
    for name, value in pairs:
        take(asked, name, value)
    return asked


def take(asked: Asked, name: str, value: str) -> None:
    """Put one parameter (of the URL or of a form) where it belongs."""
    if name == "query":
        asked.query += value.encode()
    elif name.startswith("param_"):
        asked.params[name.removeprefix("param_")] = value
    elif name in ("user", "password", "database", "query_id", "session_id"):
        setattr(asked, name, value)
    elif name == "default_format":
        asked.format = value
    elif name == "session_timeout":
        asked.session_timeout = float(value) if value.replace(".", "", 1).isdigit() else 60.0
    elif name in ("session_check", "wait_end_of_query"):
        setattr(asked, name, value == "1")
    elif name == "enable_http_compression":
        asked.compress = value in ("1", "true")
    elif name == "compress":
        asked.frames = value in ("1", "true")
    elif name == "network_compression_method":
        asked.frame_method = value
    elif name == "client_protocol_version":
        asked.revision = int(value) if value.isascii() and value.isdigit() else 0
    elif name not in _TRANSPORT:
        _take_setting(asked, name, value)


def _take_setting(asked: Asked, name: str, value: str) -> None:
    if not _SETTING_NAME.fullmatch(name):
        raise refuse(UNKNOWN_SETTING, f"Unknown setting '{name}'")
    asked.settings[name] = value


def _credentials(headers: Mapping[str, str]) -> tuple[str | None, str | None]:
    if "x-clickhouse-user" in headers or "x-clickhouse-key" in headers:
        return headers.get("x-clickhouse-user", "default"), headers.get("x-clickhouse-key", "")
    scheme, _, given = headers.get("authorization", "").partition(" ")
    if not scheme:
        return None, None
    if scheme.lower() != "basic":
        raise refuse(AUTHENTICATION_FAILED, f"{scheme}: only Basic authentication is supported")
    try:
        name, _, password = base64.b64decode(given, validate=True).decode().partition(":")
    except (binascii.Error, UnicodeDecodeError):
        raise refuse(AUTHENTICATION_FAILED, "Authorization: not valid Basic credentials") from None
    return name, password
