"""A migrated database on the shared ClickHouse server, which tests have one after the other, each without rows."""

from __future__ import annotations

import functools

import clickhouse_connect
from clickhouse_connect.driver.client import Client

from infra.clickhouse.migrate import migrate
from tests.clickhouse_server import fresh_database, shared_clickhouse


def emptied_archive() -> str:
    """The URL of a migrated database without rows; the test has it until another one asks. Making its tables takes
    fifty times as long as emptying them."""
    url, tables = _archive()
    with clickhouse_connect.get_client(dsn=url, autogenerate_session_id=False) as client:
        for name, engine in _tables(client):
            if name not in tables:  # a test that failed left it
                client.command(f"DROP TABLE IF EXISTS `{name}`")
            elif "MergeTree" in engine and name != "schema_migrations":
                client.command(f"TRUNCATE TABLE `{name}`")
    return url


@functools.cache
def _archive() -> tuple[str, frozenset[str]]:
    """A migrated database on the shared server and the names of its tables."""
    url = fresh_database(shared_clickhouse().url)
    migrate(url, say=lambda step: None)
    with clickhouse_connect.get_client(dsn=url, autogenerate_session_id=False) as client:
        return url, frozenset(name for name, _ in _tables(client))


def _tables(client: Client) -> list[tuple[str, str]]:
    """Names and engines, views first: nothing fills a table that was emptied."""
    asked = (
        "SELECT name, engine FROM system.tables WHERE database = currentDatabase()"
        " ORDER BY endsWith(engine, 'View') DESC, name"
    )
    return [(name, engine) for name, engine in client.query(asked).result_rows]
