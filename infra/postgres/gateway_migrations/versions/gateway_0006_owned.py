"""Whose the provider's things are."""

import sqlalchemy as sa
from alembic import op

revision = "gateway_0006"
down_revision = "gateway_0005"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """A row a vault, agent, environment, file or memory store that is bound to a tenant."""
    op.create_table(
        "gateway_owned",
        sa.Column("kind", sa.String(16), nullable=False),
        sa.Column("id", sa.String(256), nullable=False),
        sa.Column("tenant_id", sa.String(128), nullable=False),
        sa.Column("project", sa.String(128), nullable=False),
        sa.Column("user_id", sa.String(128), nullable=False),
        sa.Column("label", sa.String(256), nullable=False),
        sa.Column("created_at", sa.String(40), nullable=False),
        sa.PrimaryKeyConstraint("kind", "id", name="gateway_owned_pkey"),
    )
    op.create_index("gateway_owned_by_tenant", "gateway_owned", ["tenant_id", "kind", "id"])


def downgrade() -> None:
    op.drop_table("gateway_owned")
