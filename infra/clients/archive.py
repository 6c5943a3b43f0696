"""A reader of ClickHouse with the client and the URL that analysts use."""

from __future__ import annotations

import asyncio
from typing import Any

from clickhouse_connect import get_client
from clickhouse_connect.driver.exceptions import ClickHouseError

__all__ = ["ArchiveClient", "ClickHouseError"]


class ArchiveClient:
    """Questions to the archive. Each has a connection of its own: the server may come and go, and questions may be
    asked at once. Raises ClickHouseError or OSError when it does not answer within `timeout` seconds."""

    def __init__(self, url: str, timeout: float = 30.0) -> None:
        self._url = url
        self._timeout = timeout

    async def query(
        self, sql: str, *, timeout: float | None = None, **parameters: Any
    ) -> list[tuple[Any, ...]]:
        """All rows of a query."""
        rows, _ = await self.table(sql, timeout=timeout, **parameters)
        return rows

    async def table(
        self, sql: str, *, timeout: float | None = None, **parameters: Any
    ) -> tuple[list[tuple[Any, ...]], tuple[str, ...]]:
        """All rows of a query, and the names of their columns."""
        return await asyncio.to_thread(self.ask, sql, parameters, timeout or self._timeout)

    async def count(self, sql: str, **parameters: Any) -> int:
        """The one number that a query returns."""
        [[number]] = await self.query(sql, **parameters)
        return int(number)

    def ask(
        self, sql: str, parameters: dict[str, Any], timeout: float
    ) -> tuple[list[tuple[Any, ...]], tuple[str, ...]]:
        """As `table`, blocking."""
        with get_client(
            dsn=self._url,
            autogenerate_session_id=False,
            connect_timeout=2,
            send_receive_timeout=int(timeout),
            query_retries=0,
        ) as client:
            found = client.query(sql, parameters=parameters)
            return [tuple(row) for row in found.result_rows], tuple(found.column_names)
