"""Vaults are found by whom they are for."""

from alembic import op

revision = "gateway_0007"
down_revision = "gateway_0006"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """An index for the vaults of a session that names none."""
    op.create_index("gateway_owned_for", "gateway_owned", ["tenant_id", "project", "user_id"])


def downgrade() -> None:
    op.drop_index("gateway_owned_for", table_name="gateway_owned")
