"""Fixtures for every test: real parts, started when first asked for."""

from tests.clickhouse_server import clickhouse_url
from tests.stack import kafka_bootstrap, local_stack, postgres_server, postgres_url

__all__ = ["clickhouse_url", "kafka_bootstrap", "local_stack", "postgres_server", "postgres_url"]
