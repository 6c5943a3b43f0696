"""What every Alembic environment here does: run on a connection that was handed in, and nothing else."""

from __future__ import annotations

from alembic import context
from sqlalchemy import Connection


def run(*, version_table: str) -> None:
    """Migrate the connection in the configuration's attributes; `version_table` keeps the trees apart.

    Raises RuntimeError when Alembic was started on its own: use `turnstile migrate`.
    """
    connection: Connection | None = context.config.attributes.get("connection")
    if connection is None:
        raise RuntimeError("no connection: run `turnstile migrate` instead of alembic itself")
    context.configure(
        connection=connection,
        version_table=version_table,
        # One tree's tables are none of the other's business.
        target_metadata=None,
        transactional_ddl=True,
        # SQLite can't alter most things in place.
        render_as_batch=connection.dialect.name == "sqlite",
    )
    with context.begin_transaction():
        context.run_migrations()
