"""The tools' connection to ClickHouse: the URL that everything else uses, without its database."""

from __future__ import annotations

import re
from urllib.parse import unquote, urlsplit

import clickhouse_connect
from clickhouse_connect.driver.client import Client

_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")


class BadAddress(Exception):
    """The URL is none of ClickHouse's; the message says what is wrong with it."""


def connect(url: str) -> tuple[Client, str]:
    """A client that works in `default`, and the name of the URL's database (`turnstile` if it names none).

    `url`: `http(s)://user:password@host:port/database`. Raises BadAddress, or clickhouse-connect's errors when the
    server does not answer.
    """
    parts = urlsplit(url)
    database = parts.path.strip("/") or "turnstile"
    if parts.scheme not in ("http", "https") or not parts.hostname:
        raise BadAddress("the URL must be http://user:password@host:port/database")
    if not _NAME.fullmatch(database):
        raise BadAddress(f"{database}: not a database name: letters, digits and _ only")
    client = clickhouse_connect.get_client(
        host=parts.hostname,
        port=parts.port or (8443 if parts.scheme == "https" else 8123),
        username=unquote(parts.username or "default"),
        password=unquote(parts.password or ""),
        secure=parts.scheme == "https",
        database="default",
        connect_timeout=10,
        send_receive_timeout=300,
        autogenerate_session_id=False,
    )
    return client, database
