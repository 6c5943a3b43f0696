"""Fixtures for every test: real parts, started when first asked for."""

from tests.stack import kafka_bootstrap, local_stack, postgres_server, postgres_url

__all__ = ["kafka_bootstrap", "local_stack", "postgres_server", "postgres_url"]
