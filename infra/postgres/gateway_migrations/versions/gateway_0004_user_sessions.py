"""The session that each user goes on with."""

import sqlalchemy as sa
from alembic import op

revision = "gateway_0004"
down_revision = "gateway_0003"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """A row a user and scope."""
    op.create_table(
        "gateway_user_sessions",
        sa.Column("tenant_id", sa.String(128), nullable=False),
        sa.Column("user_id", sa.String(128), nullable=False),
        sa.Column("scope", sa.String(160), nullable=False),
        sa.Column("session_id", sa.String(128), nullable=False),
        sa.Column("opened", sa.Boolean, nullable=False),
        sa.PrimaryKeyConstraint("tenant_id", "user_id", "scope", name="gateway_user_sessions_pkey"),
    )
    op.create_index(
        "gateway_user_sessions_by_session", "gateway_user_sessions", ["tenant_id", "session_id"]
    )


def downgrade() -> None:
    op.drop_table("gateway_user_sessions")
