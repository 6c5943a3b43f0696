"""Runs the gateway's migrations on the connection that `infra.postgres.migrate` hands over."""

from infra.postgres.alembic_env import run

run(version_table="gateway_alembic_version")
