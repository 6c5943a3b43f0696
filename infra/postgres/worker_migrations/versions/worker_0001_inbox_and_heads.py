"""The inbox, and one head row a session."""

import sqlalchemy as sa
from alembic import op

revision = "worker_0001"
down_revision = None
branch_labels = None
depends_on = None


def upgrade() -> None:
    """The inbox of inputs and the head rows, which carry lease and epoch."""
    op.create_table(
        "worker_inbox",
        # SQLite counts only INTEGER keys up by itself.
        sa.Column(
            "position",
            sa.BigInteger().with_variant(sa.Integer, "sqlite"),
            primary_key=True,
            autoincrement=True,
        ),
        sa.Column("tenant_id", sa.String(128), nullable=False),
        sa.Column("session_id", sa.String(128), nullable=False),
        sa.Column("input_id", sa.String(300), nullable=False),
        sa.Column("kind", sa.String(64), nullable=False),
        sa.Column("body", sa.LargeBinary(), nullable=False),
        sa.Column("traceparent", sa.String(64), nullable=False),
    )
    key = ["tenant_id", "session_id"]
    op.create_index("worker_inbox_once", "worker_inbox", [*key, "input_id"], unique=True)
    op.create_index("worker_inbox_order", "worker_inbox", [*key, "position"])
    op.create_table(
        "worker_heads",
        sa.Column("tenant_id", sa.String(128), nullable=False),
        sa.Column("session_id", sa.String(128), nullable=False),
        sa.Column("epoch", sa.BigInteger(), nullable=False),
        sa.Column("version", sa.BigInteger(), nullable=False),
        sa.Column("state", sa.LargeBinary(), nullable=False),
        sa.Column("unsaid", sa.LargeBinary(), nullable=False),
        sa.Column("todo", sa.LargeBinary(), nullable=False),
        sa.Column("filed", sa.BigInteger(), nullable=False),
        sa.Column("taken", sa.BigInteger(), nullable=False),
        sa.Column("position", sa.BigInteger(), nullable=False),
        sa.Column("lease_owner", sa.String(128), nullable=True),
        sa.Column("wake_at", sa.Double(), nullable=True),
        sa.PrimaryKeyConstraint(*key, name="worker_heads_pkey"),
    )
    op.create_index("worker_heads_wake", "worker_heads", ["wake_at"])
    op.create_index("worker_heads_owner", "worker_heads", ["lease_owner"])


def downgrade() -> None:
    op.drop_table("worker_heads")
    op.drop_table("worker_inbox")
