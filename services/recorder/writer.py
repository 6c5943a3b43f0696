"""Inserts rows into ClickHouse as they are, over HTTP; a repeat is harmless.

Blocking, for a thread; the client is made at the first insert, so that ClickHouse may be away at the start.
"""

from __future__ import annotations

import contextlib
from typing import Any

import clickhouse_connect
from clickhouse_connect.driver.client import Client
from clickhouse_connect.driver.exceptions import ClickHouseError

from shared.archive_insert import SETTINGS, TABLE

CONNECT_TIMEOUT_S = 5

# Codes with which ClickHouse says that it does not like the data: trying again changes nothing.
REFUSALS = frozenset(
    {
        6,  # CANNOT_PARSE_TEXT
        25,  # CANNOT_PARSE_ESCAPE_SEQUENCE
        26,  # CANNOT_PARSE_QUOTED_STRING
        27,  # CANNOT_PARSE_INPUT_ASSERTION_FAILED
        33,  # CANNOT_READ_ALL_DATA
        38,  # CANNOT_PARSE_DATE
        41,  # CANNOT_PARSE_DATETIME
        43,  # ILLEGAL_TYPE_OF_ARGUMENT
        53,  # TYPE_MISMATCH
        69,  # ARGUMENT_OUT_OF_BOUND
        70,  # CANNOT_CONVERT_TYPE
        72,  # CANNOT_PARSE_NUMBER
        117,  # INCORRECT_DATA
        130,  # CANNOT_READ_ARRAY_FROM_TEXT
        131,  # TOO_LARGE_STRING_SIZE
        306,  # TOO_DEEP_RECURSION
        321,  # VALUE_IS_OUT_OF_RANGE_OF_DATA_TYPE
        349,  # CANNOT_INSERT_NULL_IN_ORDINARY_COLUMN
        407,  # DECIMAL_OVERFLOW
        467,  # CANNOT_PARSE_BOOL
        469,  # VIOLATED_CONSTRAINT
    }
)


class Refused(Exception):
    """ClickHouse looked at the rows and does not take them: one of them, at least, is bad."""

    def __init__(self, code: int, detail: str) -> None:
        super().__init__(detail)
        self.code = code


class Away(Exception):
    """The rows are not in, for a reason that is not theirs. The message has no row's content."""


class ClickHouseWriter:
    """Inserts into `session_events` of the database in `url` (`http://user:password@host:8123/turnstile`).

    Not for two threads at once. `timeout` is in seconds, for one insert.
    """

    def __init__(self, url: str, *, timeout: float) -> None:
        self._url = url
        self._timeout = timeout
        self._client: Client | None = None

    def insert(self, body: bytes) -> None:
        """Insert a JSONEachRow body; when this returns, the rows are there.

        Raises Refused or Away. Away says nothing about whether they are in: try again.
        """
        try:
            self._connected().raw_insert(
                TABLE, insert_block=body, fmt="JSONEachRow", settings=dict(SETTINGS)
            )
        except (ClickHouseError, OSError) as error:
            raise _judged(error) from error

    def ping(self) -> None:
        """Raises Away when ClickHouse does not answer."""
        try:
            if not self._connected().ping():
                raise Away("ClickHouse does not answer /ping")
        except (ClickHouseError, OSError) as error:
            raise _judged(error) from error

    def close(self) -> None:
        """Give the connections back; an insert afterwards opens new ones."""
        client, self._client = self._client, None
        if client is not None:
            with contextlib.suppress(Exception):
                client.close()

    def _connected(self) -> Client:
        if self._client is None:
            options: dict[str, Any] = {
                "dsn": self._url,
                "connect_timeout": CONNECT_TIMEOUT_S,
                "send_receive_timeout": max(1, round(self._timeout)),
                # A session would let one request run at a time, and we need nothing that lives in one.
                "autogenerate_session_id": False,
                "query_retries": 0,
                "compress": False,
            }
            self._client = clickhouse_connect.get_client(**options)
        return self._client


def _judged(error: Exception) -> Refused | Away:
    code = getattr(error, "code", None)
    if code in REFUSALS:
        return Refused(code, str(error))
    name = getattr(error, "name", None) or type(error).__name__
    # The words of a failure of the network name the address only; those of an exception may quote the data.
    return Away(f"code {code} ({name})" if code else f"{name}: {str(error)[:200]}")
