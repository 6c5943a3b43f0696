"""Room for a `tracestate` beside the `traceparent` of an input."""

import sqlalchemy as sa
from alembic import op

revision = "worker_0004"
down_revision = "worker_0003"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """SQLite bounds no text."""
    if op.get_context().dialect.name != "sqlite":
        op.alter_column(
            "worker_inbox", "traceparent", type_=sa.String(600), existing_nullable=False
        )


def downgrade() -> None:
    """Wider texts stay: PostgreSQL would refuse to cut them."""
