"""Releases of agents: which version sessions get that name an agent."""

import sqlalchemy as sa
from alembic import op

revision = "worker_0007"
down_revision = "worker_0006"
branch_labels = None
depends_on = None

NUMBERS = ("pinned", "previous", "canary", "share", "released", "edition")


def upgrade() -> None:
    """One table; nothing that is there changes."""
    op.create_table(
        "agent_releases",
        sa.Column("tenant_id", sa.String(128), nullable=False),
        sa.Column("name", sa.String(128), nullable=False),
        sa.Column("agent_id", sa.String(128), nullable=False),
        *(sa.Column(name, sa.BigInteger(), nullable=False) for name in NUMBERS),
        sa.Column("changed_at", sa.Double(), nullable=False),
        sa.Column("why", sa.String(400), nullable=False),
        sa.PrimaryKeyConstraint("tenant_id", "name", name="agent_releases_pkey"),
    )


def downgrade() -> None:
    op.drop_table("agent_releases")
