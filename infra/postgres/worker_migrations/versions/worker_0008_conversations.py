"""Conversations on the Messages API, which are kept by the worker."""

import sqlalchemy as sa
from alembic import op

revision = "worker_0008"
down_revision = "worker_0007"
branch_labels = None
depends_on = None

TABLE = "worker_conversations"


def upgrade() -> None:
    """One table; nothing that is there changes."""
    op.create_table(
        TABLE,
        sa.Column("conversation", sa.String(64), nullable=False),
        sa.Column("position", sa.BigInteger(), nullable=False),
        sa.Column("tenant_id", sa.String(128), nullable=False),
        sa.Column("session_id", sa.String(128), nullable=False),
        sa.Column("source", sa.String(300), nullable=False),
        sa.Column("event", sa.LargeBinary(), nullable=False),
        sa.Column("said", sa.LargeBinary(), nullable=False),
        sa.PrimaryKeyConstraint("conversation", "position", name="worker_conversations_pkey"),
    )
    op.create_index(f"{TABLE}_once", TABLE, ["conversation", "source"], unique=True)
    op.create_index(f"{TABLE}_session", TABLE, ["tenant_id", "session_id"])


def downgrade() -> None:
    op.drop_table(TABLE)
