"""Connect links."""

import sqlalchemy as sa
from alembic import op

revision = "gateway_0008"
down_revision = "gateway_0007"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """A row a link: hashes of the link and of the browser that began with it, and what is sealed with the link."""
    op.create_table(
        "gateway_connects",
        sa.Column("id", sa.String(64), nullable=False),
        sa.Column("tenant_id", sa.String(128), nullable=False),
        sa.Column("user_id", sa.String(128), nullable=False),
        sa.Column("vault_id", sa.String(128), nullable=False),
        sa.Column("sealed", sa.Text(), nullable=False),
        sa.Column("browser", sa.String(64), nullable=False),
        sa.Column("status", sa.String(16), nullable=False),
        sa.Column("expires_at", sa.Double(), nullable=False),
        sa.PrimaryKeyConstraint("id", name="gateway_connects_pkey"),
    )
    op.create_index("gateway_connects_by_user", "gateway_connects", ["tenant_id", "user_id"])
    op.create_index("gateway_connects_expire", "gateway_connects", ["expires_at"])


def downgrade() -> None:
    op.drop_table("gateway_connects")
