"""Sessions and turns as clients see them."""

import sqlalchemy as sa
from alembic import op

revision = "gateway_0001"
down_revision = None
branch_labels = None
depends_on = None


def upgrade() -> None:
    """The read model: a row a session, a row a turn."""
    op.create_table(
        "gateway_sessions",
        sa.Column("tenant_id", sa.String(128), nullable=False),
        sa.Column("session_id", sa.String(128), nullable=False),
        sa.Column("user_id", sa.String(128), nullable=False),
        sa.Column("status", sa.String(32), nullable=False),
        sa.Column("created_at", sa.String(40), nullable=False),
        sa.Column("last_seq", sa.BigInteger(), nullable=False),
        sa.Column("body", sa.Text(), nullable=False),
        sa.PrimaryKeyConstraint("tenant_id", "session_id", name="gateway_sessions_pkey"),
    )
    op.create_index(
        "gateway_sessions_by_time", "gateway_sessions", ["tenant_id", "created_at", "session_id"]
    )
    op.create_index(
        "gateway_sessions_by_user",
        "gateway_sessions",
        ["tenant_id", "user_id", "created_at", "session_id"],
    )
    op.create_table(
        "gateway_turns",
        sa.Column("tenant_id", sa.String(128), nullable=False),
        sa.Column("session_id", sa.String(128), nullable=False),
        sa.Column("turn_id", sa.String(128), nullable=False),
        sa.Column("status", sa.String(32), nullable=False),
        sa.Column("seq", sa.BigInteger(), nullable=False),
        sa.Column("body", sa.Text(), nullable=False),
        sa.PrimaryKeyConstraint("tenant_id", "session_id", "turn_id", name="gateway_turns_pkey"),
    )


def downgrade() -> None:
    op.drop_table("gateway_turns")
    op.drop_table("gateway_sessions")
