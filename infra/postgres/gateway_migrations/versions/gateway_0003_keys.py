"""What each Idempotency-Key stands for."""

import sqlalchemy as sa
from alembic import op

revision = "gateway_0003"
down_revision = "gateway_0002"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """A row a key, of turns by session, of openings with an empty session."""
    op.create_table(
        "gateway_keys",
        sa.Column("tenant_id", sa.String(128), nullable=False),
        sa.Column("session_id", sa.String(128), nullable=False),
        sa.Column("key", sa.String(64), nullable=False),
        sa.Column("stands_for", sa.String(128), nullable=False),
        sa.PrimaryKeyConstraint("tenant_id", "session_id", "key", name="gateway_keys_pkey"),
    )


def downgrade() -> None:
    op.drop_table("gateway_keys")
