"""What is kept of users."""

import sqlalchemy as sa
from alembic import op

revision = "gateway_0005"
down_revision = "gateway_0004"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """A row a user."""
    op.create_table(
        "gateway_profiles",
        sa.Column("tenant_id", sa.String(128), nullable=False),
        sa.Column("user_id", sa.String(128), nullable=False),
        sa.Column("body", sa.Text, nullable=False),
        sa.Column("updated_at", sa.String(40), nullable=False),
        sa.PrimaryKeyConstraint("tenant_id", "user_id", name="gateway_profiles_pkey"),
    )


def downgrade() -> None:
    op.drop_table("gateway_profiles")
