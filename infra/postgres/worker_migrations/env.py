"""Runs the agent-worker's migrations on the connection that `infra.postgres.migrate` hands over."""

from infra.postgres.alembic_env import run

run(version_table="worker_alembic_version")
